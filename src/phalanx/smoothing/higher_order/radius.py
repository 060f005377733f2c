"""From a probability and the slope of it to a radius (Mohapatra et al., NeurIPS 2020).

At noise level 1 let ``P(x)`` be the smoothed probability of the class, ``p`` its value at the input
and ``G`` the norm of its gradient there, the *slope*. By Stein's identity the gradient is
``E[z 1{vote for the class}]``. What is known is ``P >= p`` and ``|gradient| <= G``. At distance R
along a unit vector the worst voter solves a linear program over functions ``0 <= f <= 1`` of the
noise z along that vector::

    minimise  E[f exp(R z - R^2/2)]   subject to   E[f] >= p,   E[f z] >= -G.

By duality (generalised Neyman-Pearson lemma) a minimiser is ``f = 1`` where
``exp(R z - R^2/2) <= l + m z`` for some ``l, m >= 0``. The left side is convex, so that set is an
interval ``[c1, c2]``, and if both constraints are tight ::

    Phi(c2) - Phi(c1) = p,    phi(c2) - phi(c1) = G,    P(R) = Phi(c2 - R) - Phi(c1 - R).

They are: for ``p > 1/2`` the interval contains 0, so the chord through its ends lies above a
positive function at 0 (``l > 0``) and rises as the exponential does (``m > 0``). Where G is
``phi(Phi^-1(p))`` or more, which no gradient exceeds, c1 is -infinity, the constraint on the slope
is idle (``m = 0``) and the radius is Cohen's.

Two things follow. The program with "at least p" and "at most G" is the one that was solved; its
feasible set shrinks when p grows or G falls, so the radius rises with p and falls with G, and a
lower bound on the one with an upper bound on the other is sound jointly. And c1, c2 do not
depend on R, while ``P(R)`` falls for all R >= 0 because ``c1 + c2 <= 0``: the radius is the one
R at which it is 1/2, found by bisection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.special import ndtr, ndtri

from phalanx.errors import ParameterError
from phalanx.smoothing.radii._scaled import GaussianL2

# What normal distribution functions may be wrong by, many times over: relative to the mass
# outside [c1, c2], and in the votes that are lost at distance R.
_TAIL_SLACK = 1e-9
_LOSS_SLACK = 1e-13
_STEPS = 200


def normal_density(z: float) -> float:
    """``phi(z)``; 0 at infinity."""
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def largest_slope(p: float) -> float:
    """``phi(Phi^-1(p))``: no class of probability p in (0, 1) has a larger slope at sigma 1.

    >>> round(largest_slope(0.8), 4)
    0.28
    """
    return normal_density(float(ndtri(p)))


@dataclass(frozen=True)
class GradientRadius(GaussianL2):
    """The radius rule of an input at which the slope is known; see the module.

    Never below Cohen's radius, and equal to it for the largest slope.

    Args:
        slope: an upper bound on the slope at sigma 1 (in input units: the norm of the gradient
            times sigma), at least 0; infinity says nothing.

    Raises:
        ParameterError: a slope below 0 or NaN.

    >>> [round(GradientRadius(slope).radius(0.8, 1.0), 2) for slope in (0.0, 0.14, 0.28)]
    [1.27, 1.01, 0.84]
    """

    slope: float

    def __post_init__(self) -> None:
        if not self.slope >= 0:
            raise ParameterError(
                f"a slope of {self.slope}",
                why="it is an upper bound on the norm of a gradient, at least 0",
            )

    def l2_radius(self, p_lower: float) -> float:
        """The distance at which the worst voter has lost half of the votes."""
        outside = 1 - p_lower  # exact: p_lower is at least 1/2
        low, high = interval(outside, self.slope)
        cohen = float(ndtri(p_lower))

        def lost(radius: float) -> float:
            return float(ndtr(radius - high)) + float(ndtr(low - radius))

        return max(cohen, _largest(lambda r: lost(r) <= 0.5 - _LOSS_SLACK, high))


def interval(outside: float, slope: float) -> tuple[float, float]:
    """The ends ``c1 <= 0 <= c2`` of the worst voter's interval.

    Args:
        outside: mass outside it, in (0, 1/2].
        slope: at least 0.

    Returns:
        c1 (-infinity for the largest slope or more) and c2; rounded to a slope that is no smaller.

    >>> [round(end, 4) for end in interval(0.2, 0.0)]
    [-1.2816, 1.2816]
    """

    def found(left: float) -> float:
        return normal_density(float(ndtri(outside - left))) - normal_density(float(ndtri(left)))

    # The slope falls from its largest value to 0 as mass moves from the right tail to the left.
    left = _largest(lambda tail: found(tail) >= slope, outside / 2)
    left = max(0.0, left * (1 - _TAIL_SLACK) - _TAIL_SLACK**2 * outside)
    return float(ndtri(left)), -float(ndtri(outside - left))


def _largest(holds: Callable[[float], bool], top: float) -> float:
    """The largest number in [0, top] at which something holds that stops once; 0 if nowhere."""
    low, high = 0.0, top
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
