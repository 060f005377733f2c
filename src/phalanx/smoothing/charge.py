"""What the arithmetic of a run takes off its certificates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from phalanx.smoothing.radii import L2, Ball, RadiusRule


@dataclass(frozen=True)
class Charge:
    """Taken off a bound on a probability, and then off the radius it gives.

    Attributes:
        probability: distance in total variation of a drawn noise vector from the one the theorem
            speaks of. Votes bound the probability under the first, which exceeds that under the
            second by no more.
        distance: how far the classifier may move an input before it reads it, and how far the
            image that was certified was moved.
    """

    probability: float = 0.0
    distance: float = 0.0

    def lower(self, p_lower: float) -> float:
        """A lower bound on the probability under exact noise, rounded down.

        >>> Charge(0.25).lower(0.75) <= 0.5, Charge().lower(0.75)
        (True, 0.75)
        """
        return _less(p_lower, self.probability)

    def upper(self, p_other: float) -> float:
        """An upper bound on a probability under exact noise, rounded up."""
        if not self.probability:
            return p_other
        return min(1.0, math.nextafter(p_other + self.probability, 2.0))

    def radius(self, radius: float) -> float:
        """What is left of a radius, rounded down; at least 0."""
        return _less(radius, self.distance)


FREE = Charge()
"""Nothing is charged: what float32 does to noise and sums is not looked at."""


class Charged:
    """A radius rule under a charge: from a bound on the probability of votes to a radius.

    Attributes:
        noise: that of the rule.
        threshold: the largest probability of votes that certifies nothing.
    """

    def __init__(self, rule: RadiusRule, charge: Charge) -> None:
        self.noise = rule.noise
        self.threshold = rule.threshold
        if charge.probability:
            self.threshold = math.nextafter(rule.threshold + charge.probability, 1.0)
        self._rule, self._charge = rule, charge

    def radius(self, p_lower: float, sigma: float, ball: Ball = L2) -> float:
        """The radius in input units after the charge, rounded towards zero, never < 0."""
        return self._charge.radius(self._rule.radius(self._charge.lower(p_lower), sigma, ball))


def _less(value: float, taken: float) -> float:
    return max(0.0, math.nextafter(value - taken, -math.inf)) if taken else value
