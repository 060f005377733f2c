"""Laplace noise: l1, from Renyi divergences (Li, Chen, Wang & Carin, NeurIPS 2019).

For comparison: it is never larger than `laplace`, which is tight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phalanx.smoothing.radii import Ball, radii
from phalanx.smoothing.radii._scaled import Scaled
from phalanx.smoothing.radii.laplace import SCALE
from phalanx.smoothing.radii.renyi import ORDERS, bernoulli_divergence

_HALVINGS = 60


class LaplaceRenyi(Scaled):
    """The largest R at which some order a > 1 has ``D_a(noise moved by R) <= D_a(1/2 || p)``.

    At scale 1 and for one value moved by x the divergence of order a is

        g(x) = ln( a/(2a-1) e^((a-1)x) + (a-1)/(2a-1) e^(-ax) ) / (a - 1)

    which is convex and 0 at 0, so moving several values costs at most as much as moving one by
    their sum: R is in l1. The class can be lost only where the noise differs as much as the votes.

    >>> round(LaplaceRenyi().radius(0.99, 1.0, Ball("l1")), 3)
    2.766
    """

    noise = "laplace"
    relative_error = 1e-6

    def unit_radius(self, p_lower: float, ball: Ball) -> float:
        """The l1 radius of the best order of the grid, shrunk to the ball."""
        wanted = bernoulli_divergence(ORDERS, p_lower)
        # g(x) is at least x - ln(2) / (a - 1), as a / (2a - 1) is more than a half.
        low, high = np.zeros_like(ORDERS), wanted + np.log(2) / (ORDERS - 1)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            fits = _divergence(ORDERS, middle) <= wanted
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        return ball.inside("l1") * SCALE * float(low.max())


def _divergence(order: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """g(x), from above: what cancellation may have taken from it is added."""
    share = np.log((order - 1) / order)
    logs = np.logaddexp((order - 1) * x, share - order * x) - np.log((2 * order - 1) / order)
    rounding = 8 * np.finfo(np.float64).eps * (np.abs(logs) + order * x + 2)
    return np.asarray((logs + rounding) / (order - 1))


radii.register("laplace-renyi")(LaplaceRenyi())
