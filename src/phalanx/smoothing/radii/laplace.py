"""Laplace noise: l1 (Teng, Lee & Yuan, 2020, theorem 1; Yang et al., ICML 2020)."""

from __future__ import annotations

import math

from phalanx.smoothing.radii import Ball, radii
from phalanx.smoothing.radii._scaled import Movable, apart

SCALE = math.sqrt(0.5)
"""b of the density ``exp(-|x| / b) / 2b`` at standard deviation 1."""


class Laplace(Movable):
    """``R = -b ln(2 (1 - p))`` in l1, which is tight; other balls lie inside that one.

    It is the Laplace quantile of p, and for another threshold t that of p less that of t. The
    derivative of a probability p along any axis is ``E[1 sign(z_i)] / b``, at most
    ``min(p, 1 - p) / b``, so along a unit of l1 the quantile of p falls by no more than one.

    >>> [round(Laplace().radius(0.9, 1.0, Ball(norm, 4)), 3) for norm in ("l1", "l2", "linf")]
    [1.138, 0.569, 0.285]
    """

    noise = "laplace"
    relative_error = 1e-6

    def unit_radius(self, p_lower: float, ball: Ball) -> float:
        """The l1 radius at scale sqrt(1/2), shrunk to the ball."""
        return ball.inside("l1") * SCALE * apart(_quantile(p_lower), _quantile(self.threshold))


def _quantile(p: float) -> float:
    """Of a Laplace law of scale 1."""
    return -math.log(2 * (1 - p)) if p > 0.5 else math.log(2 * p)


radii.register("laplace")(Laplace())
