"""Uniform noise: l1 and l_inf (Yang et al., ICML 2020; l1 also Lee et al., NeurIPS 2019)."""

from __future__ import annotations

import math

from phalanx.smoothing.radii import Ball, radii
from phalanx.smoothing.radii._scaled import Movable

HALF_WIDTH = math.sqrt(3.0)
"""Of the noise at standard deviation 1."""


class Uniform(Movable):
    """The noise cube ``[-h, h]^d`` and its copy moved by delta share ``prod(1 - |delta_i| / 2h)``
    of their volume; the class is kept while what they do not share is at most ``p - 1/2`` (or
    ``p - t`` for another threshold t).

    * l1: the product is at least ``1 - |delta|_1 / 2h``, so ``R = 2h (p - 1/2)``;
    * l_inf: ``R = 2h (1 - (3/2 - p)^(1/d))``;
    * l2: for ``|delta_i| <= h``, ``log(1 - sqrt(s) / 2h)`` is convex in ``s = delta_i^2``, so
      moving every value alike shares least, and ``R = sqrt(d)`` times the l_inf radius, at most h.

    >>> [round(Uniform().radius(0.9, 1.0, Ball(norm, 4)), 3) for norm in ("l1", "l2", "linf")]
    [1.386, 0.831, 0.415]
    """

    noise = "uniform"
    relative_error = 1e-6

    def unit_radius(self, p_lower: float, ball: Ball) -> float:
        """By norm, at half-width sqrt(3)."""
        if ball.norm == "l1":
            return 2 * HALF_WIDTH * (p_lower - self.threshold)
        d = ball.values()
        # (3/2 - p)^(1/d) from its logarithm, which loses no digits for large d.
        everywhere = -2 * HALF_WIDTH * math.expm1(math.log1p(self.threshold - p_lower) / d)
        if ball.norm == "linf":
            return everywhere
        return min(math.sqrt(d) * everywhere, HALF_WIDTH)


radii.register("uniform")(Uniform())
