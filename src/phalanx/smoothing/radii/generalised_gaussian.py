"""Generalised Gaussian noise: l2, by Neyman and Pearson's lemma (Li et al., ICML 2022)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from phalanx.noise.distributions.generalised_gaussian import check_order, usual_order
from phalanx.smoothing.double_sampling.laws import GeneralisedGaussian as Law
from phalanx.smoothing.double_sampling.radius import plain_radii
from phalanx.smoothing.radii import Ball, radii
from phalanx.smoothing.radii._scaled import Scaled


class GeneralisedGaussian(Scaled):
    """The distance up to which no class of probability p can fall to one half.

    There is no closed form: `plain_radii` integrates over the sphere that noise lies on, with a
    bound on the error, so a radius is some 1e-5 of itself below the exact one (more at p = 1/2).
    The noise has no direction of its own, so other balls lie inside the l2 ball, as for Gaussians.

    Args:
        order: k of the noise; None: `usual_order` of the dimension.

    >>> rule = GeneralisedGaussian()
    >>> [round(rule.radius(0.99, 0.5, Ball("l2", d)), 3) for d in (3, 784, 3072)]
    [1.163, 1.131, 1.096]
    """

    noise = "generalised-gaussian"
    relative_error = 1e-6

    def __init__(self, order: int | None = None) -> None:
        self._order = order

    def of_order(self, order: int) -> GeneralisedGaussian:
        """The rule for noise of one order."""
        return GeneralisedGaussian(order)

    def unit_radius(self, p_lower: float, ball: Ball) -> float:
        """The l2 radius, shrunk to the ball; the dimension has to be known."""
        d = ball.values()
        order = usual_order(d) if self._order is None else self._order
        check_order(order, d)
        return ball.inside("l2") * _l2_radius(p_lower, d, order)


@lru_cache(maxsize=1 << 14)
def _l2_radius(p_lower: float, d: int, order: int) -> float:
    """At sigma 1; order 0 is the Gaussian. A hundredth of a second, so answers are kept."""
    if order == 0:
        return float(ndtri(p_lower))
    return float(plain_radii(Law(d, order, 1.0), np.array([p_lower])).radius[0])


radii.register("generalised-gaussian")(GeneralisedGaussian())
