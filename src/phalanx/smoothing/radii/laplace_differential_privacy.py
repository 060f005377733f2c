"""Laplace noise: l1, from differential privacy (Lecuyer et al., S&P 2019).

For comparison: it is never larger than `laplace`, which is tight.
"""

from __future__ import annotations

import math

from phalanx.smoothing.radii import Ball, radii
from phalanx.smoothing.radii._scaled import Scaled
from phalanx.smoothing.radii.laplace import SCALE


class LaplaceDifferentialPrivacy(Scaled):
    """``R = (b / 2) ln(p / (1 - p)) = b artanh(2p - 1)`` in l1; other balls lie inside that one.

    Within R the noise is epsilon-private with ``epsilon = R / b`` (and delta = 0), and such a
    classifier keeps its class if ``p > e^(2 epsilon) (1 - p)`` (proposition 1 with two classes).

    >>> round(LaplaceDifferentialPrivacy().radius(0.99, 1.0, Ball("l1")), 3)
    1.625
    """

    noise = "laplace"
    relative_error = 1e-6

    def unit_radius(self, p_lower: float, ball: Ball) -> float:
        """The l1 radius at scale sqrt(1/2), shrunk to the ball."""
        return ball.inside("l1") * SCALE * math.atanh(2 * p_lower - 1)


radii.register("laplace-differential-privacy")(LaplaceDifferentialPrivacy())
