"""The l2 radius of Gaussian smoothing (Cohen, Rosenfeld & Kolter, ICML 2019, theorem 1)."""

from __future__ import annotations

import math

from scipy.special import ndtri

from phalanx.errors import ParameterError
from phalanx.noise.distributions import added_sigma, check_sigma
from phalanx.smoothing.radii import radii

ULPS = 8


class NeymanPearson:
    """``R = sigma * Phi^-1(p_lower)``: tight for a class that has at least ``p_lower``."""

    noise = "gaussian"
    norm = "l2"
    threshold = 0.5

    def radius(self, p_lower: float, sigma: float) -> float:
        """The radius, rounded towards zero by more than the error of ``ndtri``.

        Noise is added in float32, so the smaller of ``sigma`` and its float32 is the level.

        >>> NeymanPearson().radius(0.5, 1.0)
        0.0
        >>> round(NeymanPearson().radius(0.9999309248330094, 0.25), 9)
        0.952864141
        """
        check_sigma(sigma)
        if not 0 <= p_lower < 1:
            raise ParameterError(f"a lower bound of {p_lower} on a probability")
        if p_lower <= self.threshold:
            return 0.0
        radius = min(sigma, added_sigma(sigma)) * float(ndtri(p_lower))
        for _ in range(ULPS):
            radius = math.nextafter(radius, 0.0)
        return radius


radii.register("neyman-pearson")(NeymanPearson())
