"""What every certificate that scales with the noise shares: checks, the level, and rounding."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Self

from phalanx.errors import ParameterError
from phalanx.noise.distributions import added_sigma, check_sigma
from phalanx.smoothing.radii import L2, Ball

_QUANTILE = 2e-15
"""Relative, of a quantile: a difference of two may cancel, and their rounding does not."""


class Scaled(ABC):
    """A radius at sigma 1, scaled to the level and rounded towards zero.

    Attributes:
        relative_error: of `unit_radius` and of the level at which noise is added, by which (and
            by 8 ulp) a radius is moved down.
    """

    noise = "gaussian"
    threshold = 0.5
    relative_error = 0.0

    @abstractmethod
    def unit_radius(self, p_lower: float, ball: Ball) -> float:
        """The radius of a ball at sigma 1 for threshold < p_lower < 1; at least 0."""

    def radius(self, p_lower: float, sigma: float, ball: Ball = L2) -> float:
        """The radius in input units, at most the exact one.

        Noise is added in float32, so the smaller of ``sigma`` and its float32 is the level.

        Raises:
            ParameterError: sigma is no noise level, p_lower is not in [0, 1), or the ball needs
                a dimension.
        """
        check_sigma(sigma)
        if not 0 <= p_lower < 1:
            raise ParameterError(f"a lower bound of {p_lower} on a probability")
        if p_lower <= self.threshold:
            return 0.0
        return self.scaled(self.unit_radius(p_lower, ball), sigma)

    def scaled(self, unit: float, sigma: float) -> float:
        """A radius at sigma 1 as one in input units, moved towards zero."""
        radius = min(sigma, added_sigma(sigma)) * unit * (1 - self.relative_error)
        for _ in range(8):
            radius = math.nextafter(radius, 0.0)
        return radius


def apart(upper: float, lower: float) -> float:
    """A difference of two quantiles, rounded down; at least 0."""
    if not lower:
        return max(0.0, upper)
    return max(0.0, upper - lower - _QUANTILE * (abs(upper) + abs(lower)))


class Movable(Scaled):
    """A rule whose theorem says where a probability falls to any value up to one half."""

    def __init__(self, threshold: float = 0.5) -> None:
        if not 0 < threshold <= 0.5:
            raise ParameterError(f"a threshold of {threshold!r}", why="it lies in (0, 1/2]")
        self.threshold = threshold

    def above(self, threshold: float) -> Self:
        """The same rule for another threshold."""
        return type(self)(threshold)


class GaussianL2(Scaled):
    """An l2 radius of Gaussian noise; of other balls, the largest inside that l2 ball.

    Nothing is lost by it where the rule is tight: a linear classifier along an axis changes at
    that l1 distance, one along a diagonal at that l_inf distance.
    """

    @abstractmethod
    def l2_radius(self, p_lower: float) -> float:
        """The l2 radius at sigma 1 for threshold < p_lower < 1; at least 0."""

    def unit_radius(self, p_lower: float, ball: Ball) -> float:
        """The l2 radius, shrunk to the ball."""
        return ball.inside("l2") * self.l2_radius(p_lower)
