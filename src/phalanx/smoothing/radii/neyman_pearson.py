"""The l2 radius of Gaussian smoothing (Cohen, Rosenfeld & Kolter, ICML 2019, theorem 1)."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.special import ndtri

from phalanx.errors import ParameterError
from phalanx.noise.distributions import check_sigma
from phalanx.smoothing.radii import L2, Ball, radii
from phalanx.smoothing.radii._among import reach
from phalanx.smoothing.radii._scaled import GaussianL2, Movable, apart


class NeymanPearson(GaussianL2, Movable):
    """``R = sigma * Phi^-1(p_lower)``: tight for a class that has at least ``p_lower``.

    For another threshold t than one half it is ``sigma (Phi^-1(p_lower) - Phi^-1(t))``.

    >>> NeymanPearson().radius(0.5, 1.0)
    0.0
    >>> round(NeymanPearson().radius(0.9999309248330094, 0.25), 9)
    0.952864141
    """

    def l2_radius(self, p_lower: float) -> float:
        """``Phi^-1(p_lower) - Phi^-1(threshold)``."""
        return apart(float(ndtri(p_lower)), float(ndtri(self.threshold)))

    def radius_against(
        self, p_lower: float, others: Sequence[float], sigma: float, ball: Ball = L2
    ) -> float:
        """The largest radius that any number of other classes leaves (Jia et al., theorem 1).

        With one bound on every other class it is
        ``sigma / 2 (Phi^-1(p_lower) - Phi^-1(p_other))``.

        A class that is not among the k most likely has k others of at least its probability
        beside it. Of any k others the t least likely have together at most ``others[t-1]``, and
        are on average no less likely than the class: up to `reach` they cannot be. Every t
        gives a radius that holds, so the largest does.

        Args:
            others: for t = 1 .. k, in (0, 1].

        Raises:
            ParameterError: as `radius`, or something that is no bound.

        >>> rule = NeymanPearson()
        >>> round(rule.radius_against(0.45, [0.3], 1.0), 4), rule.radius_against(0.3, [0.3], 1.0)
        (0.1994, 0.0)
        >>> round(rule.radius_against(0.3, [0.3, 0.4], 1.0), 4)
        0.1902
        """
        check_sigma(sigma)
        if not others or not all(0 <= p_lower < 1 and 0 < p <= 1 for p in others):
            raise ParameterError(f"bounds of {p_lower} and {list(others)} on probabilities")
        unit = max(
            _half_apart(p_lower, p) if size == 1 else reach(p_lower, p, size)
            for size, p in enumerate(others, 1)
        )
        return self.scaled(unit * ball.inside("l2"), sigma) if unit else 0.0


def _half_apart(p_lower: float, p_other: float) -> float:
    if p_lower <= p_other:
        return 0.0
    return apart(float(ndtri(p_lower)), float(ndtri(p_other))) / 2


radii.register("neyman-pearson")(NeymanPearson())
