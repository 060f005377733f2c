"""The certificate from Renyi divergences (Li, Chen, Wang & Carin, NeurIPS 2019, theorem 2).

For comparison: it is never larger than `neyman-pearson`, which is tight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phalanx.smoothing.radii import radii
from phalanx.smoothing.radii._scaled import GaussianL2

EPSILON = float(np.finfo(np.float64).eps)
ORDERS = 1 + np.geomspace(1e-3, 1e3, 601)


class Renyi(GaussianL2):
    """``R^2 = (2 sigma^2 / a) D_a(1/2 || p)`` for the best order a > 1.

    The divergence of order a between Gaussians at distance R is ``a R^2 / (2 sigma^2)``, and the
    class can be lost only where that between the votes is as large; every order is sound.

    >>> round(Renyi().radius(0.99, 1.0), 3)
    1.908
    """

    relative_error = 1e-9

    def l2_radius(self, p_lower: float) -> float:
        """The best of the grid of orders."""
        divergence = bernoulli_divergence(ORDERS, p_lower)
        return float(np.sqrt(np.max(2 * divergence / ORDERS)))


def bernoulli_divergence(order: NDArray[np.float64], p: float) -> NDArray[np.float64]:
    """Renyi divergence ``D_a(1/2 || p)`` of coins, for orders a other than 1, from below.

    ``log(2^-a (p^(1-a) + (1-p)^(1-a))) / (a - 1)``, less what cancellation may have added; >= 0.
    """
    powers = np.logaddexp((1 - order) * np.log(p), (1 - order) * np.log1p(-p))
    # What cancels is `powers`, `order log 2`, and within the first terms of about log 2.
    rounding = 8 * EPSILON * (np.abs(powers) + order + 1) / np.abs(order - 1)
    return np.maximum((powers - order * np.log(2)) / (order - 1) - rounding, 0.0)


radii.register("renyi")(Renyi())
