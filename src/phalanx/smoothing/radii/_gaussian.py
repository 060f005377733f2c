"""What every l2 certificate of Gaussian noise shares: checks, the level, and rounding."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from phalanx.errors import ParameterError
from phalanx.noise.distributions import added_sigma, check_sigma


class GaussianL2(ABC):
    """A radius at sigma 1, scaled to the level and rounded towards zero.

    Attributes:
        relative_error: of `unit_radius`, by which (and by 8 ulp) a radius is moved down.
    """

    noise = "gaussian"
    norm = "l2"
    threshold = 0.5
    relative_error = 0.0

    @abstractmethod
    def unit_radius(self, p_lower: float) -> float:
        """The radius at sigma 1 for 1/2 < p_lower < 1; at least 0."""

    def radius(self, p_lower: float, sigma: float) -> float:
        """The radius in input units, at most the exact one.

        Noise is added in float32, so the smaller of ``sigma`` and its float32 is the level.

        Raises:
            ParameterError: sigma is no noise level, or p_lower is not in [0, 1).
        """
        check_sigma(sigma)
        if not 0 <= p_lower < 1:
            raise ParameterError(f"a lower bound of {p_lower} on a probability")
        if p_lower <= self.threshold:
            return 0.0
        radius = min(sigma, added_sigma(sigma)) * self.unit_radius(p_lower)
        radius *= 1 - self.relative_error
        for _ in range(8):
            radius = math.nextafter(radius, 0.0)
        return radius
