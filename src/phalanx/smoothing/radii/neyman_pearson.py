"""The l2 radius of Gaussian smoothing (Cohen, Rosenfeld & Kolter, ICML 2019, theorem 1)."""

from __future__ import annotations

from scipy.special import ndtri

from phalanx.errors import ParameterError
from phalanx.noise.distributions import check_sigma
from phalanx.smoothing.radii import L2, Ball, radii
from phalanx.smoothing.radii._scaled import GaussianL2


class NeymanPearson(GaussianL2):
    """``R = sigma * Phi^-1(p_lower)``: tight for a class that has at least ``p_lower``.

    >>> NeymanPearson().radius(0.5, 1.0)
    0.0
    >>> round(NeymanPearson().radius(0.9999309248330094, 0.25), 9)
    0.952864141
    """

    def l2_radius(self, p_lower: float) -> float:
        """``Phi^-1(p_lower)``."""
        return float(ndtri(p_lower))

    def radius_against(
        self, p_lower: float, p_other: float, sigma: float, ball: Ball = L2
    ) -> float:
        """``sigma / 2 (Phi^-1(p_lower) - Phi^-1(p_other))``: no other class has more than p_other.

        Raises:
            ParameterError: as `radius`, or p_other is not in (0, 1].

        >>> rule = NeymanPearson()
        >>> round(rule.radius_against(0.45, 0.3, 1.0), 4), rule.radius_against(0.3, 0.3, 1.0)
        (0.1994, 0.0)
        """
        check_sigma(sigma)
        if not (0 <= p_lower < 1 and 0 < p_other <= 1):
            raise ParameterError(f"bounds of {p_lower} and {p_other} on two probabilities")
        if p_lower <= p_other:
            return 0.0
        apart = (float(ndtri(p_lower)) - float(ndtri(p_other))) / 2
        # The difference may cancel: what either term was rounded by does not shrink with it.
        rounding = 1e-15 * (abs(float(ndtri(p_lower))) + abs(float(ndtri(p_other))))
        return self.scaled(max(apart - rounding, 0.0) * ball.inside("l2"), sigma)


radii.register("neyman-pearson")(NeymanPearson())
