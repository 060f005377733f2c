"""The l2 radius of Gaussian smoothing (Cohen, Rosenfeld & Kolter, ICML 2019, theorem 1)."""

from __future__ import annotations

from scipy.special import ndtri

from phalanx.smoothing.radii import radii
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


radii.register("neyman-pearson")(NeymanPearson())
