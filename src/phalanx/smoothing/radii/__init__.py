"""From a bound on a probability to a radius; one file a certificate."""

from __future__ import annotations

from typing import Protocol

from phalanx.errors import ParameterError
from phalanx.registry import Registry


class RadiusRule(Protocol):
    """A certificate for one noise distribution and one norm.

    ``noise`` is the one distribution the theorem speaks of, ``norm`` names the ball, and
    ``threshold`` is the largest probability that certifies nothing.
    """

    noise: str
    norm: str
    threshold: float

    def radius(self, p_lower: float, sigma: float) -> float:
        """Radius in input units certified by ``p_lower``, rounded towards zero, never < 0."""
        ...


def probability_for(rule: RadiusRule, radius: float, sigma: float) -> float:
    """The smallest bound on a probability that certifies ``radius``, found by bisection.

    Raises:
        ParameterError: no probability below 1 does, or it is no radius.

    >>> from phalanx.smoothing.radii.neyman_pearson import NeymanPearson
    >>> round(probability_for(NeymanPearson(), 0.5, 0.5), 9)
    0.841344746
    """
    low, high = rule.threshold, 1 - 2.0**-53
    if not 0 <= radius <= rule.radius(high, sigma):
        raise ParameterError(
            f"a radius of {radius!r} cannot be certified at sigma {sigma:g}",
            why=f"a radius is at least 0, and no probability gives more than"
            f" {rule.radius(high, sigma):g}",
        )
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (low, middle) if rule.radius(middle, sigma) >= radius else (middle, high)
    return high


radii: Registry[RadiusRule] = Registry("radii", "phalanx.smoothing.radii", noun="radius rule")
