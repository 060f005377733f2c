"""Laplace noise: l1 (Teng, Lee & Yuan, 2020, theorem 1; Yang et al., ICML 2020)."""

from __future__ import annotations

import math

from phalanx.smoothing.radii import Ball, radii
from phalanx.smoothing.radii._scaled import Scaled

SCALE = math.sqrt(0.5)
"""b of the density ``exp(-|x| / b) / 2b`` at standard deviation 1."""


class Laplace(Scaled):
    """``R = -b ln(2 (1 - p))`` in l1, which is tight; other balls lie inside that one.

    >>> [round(Laplace().radius(0.9, 1.0, Ball(norm, 4)), 3) for norm in ("l1", "l2", "linf")]
    [1.138, 0.569, 0.285]
    """

    noise = "laplace"
    relative_error = 1e-6

    def unit_radius(self, p_lower: float, ball: Ball) -> float:
        """The l1 radius at scale sqrt(1/2), shrunk to the ball."""
        return ball.inside("l1") * SCALE * max(-math.log(2 * (1 - p_lower)), 0.0)


radii.register("laplace")(Laplace())
