"""Functions that are convex or concave left and right of zero.

What a convex piece leaves of a line of any slope is found from a tangent, whose own rounding is
counted; of a concave one at its ends.

What torch computes for exp, log, sqrt, powers, tanh and sigmoid in double precision is taken to be
right to `ULPS` units in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phalanx.bounds.outward.rounding import ULPS, UNDERFLOW, UNIT
from phalanx.graph.ir import Node

BISECTIONS = 60
Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Smooth:
    """A function that is convex or concave left and right of a place.

    Attributes:
        function, slope: f and its derivative.
        convex: left and right of zero.
        least: what its argument must be above.
        mirror: where ``f(-x) = mirror f(x)`` gives it below ``-least`` too: 1 or -1, else 0.
    """

    function: Function
    slope: Function
    convex: tuple[bool, bool]
    least: float = -math.inf
    mirror: int = 0


def _sigmoid_slope(x: Tensor) -> Tensor:
    y = torch.sigmoid(x.abs())
    return y * torch.sigmoid(-x.abs())


def power(exponent: float) -> Smooth:
    """``x^p``: of whole p on all numbers (but zero, if p is negative), else on positive ones.

    >>> power(3.0).convex, power(0.5).convex, power(-2.0).mirror
    ((False, True), (False, False), 1)
    """
    p = exponent
    whole = p == int(p)
    odd = whole and int(p) % 2 == 1
    if p in (0, 1):
        return Smooth(lambda x: x**p, lambda x: torch.full_like(x, p), (True, True))
    bowl = not 0 < p < 1
    if whole and p > 0:
        return Smooth(lambda x: x**p, lambda x: p * x ** (p - 1), (not odd, True))
    # From one half on p - 1 is exact; below it is not, but nothing underflows that counts.
    slope: Function = (lambda x: p * x ** (p - 1)) if p >= 0.5 else (lambda x: p * (x**p) / x)
    mirror = 0 if not whole else -1 if odd else 1
    return Smooth(lambda x: x**p, slope, (bowl, bowl), 0.0, mirror)


_FIXED = {
    "exp": Smooth(torch.exp, torch.exp, (True, True)),
    "square": Smooth(torch.square, lambda x: 2 * x, (True, True)),
    "log": Smooth(torch.log, torch.reciprocal, (False, False), 0.0),
    "sqrt": Smooth(torch.sqrt, lambda x: 0.5 / x.sqrt(), (False, False), 0.0),
    "reciprocal": Smooth(torch.reciprocal, lambda x: -1 / x.square(), (True, True), 0.0, -1),
    "sigmoid": Smooth(torch.sigmoid, _sigmoid_slope, (True, False)),
    "tanh": Smooth(torch.tanh, lambda x: 1 / torch.cosh(x).square(), (True, False)),
}


def _always(f: Smooth) -> Callable[[Node], Smooth]:
    return lambda node: f


SMOOTH: dict[str, Callable[[Node], Smooth]] = {
    **{op: _always(f) for op, f in _FIXED.items()},
    "power": lambda node: power(node.attributes["exponent"]),
}
"""By operator, what its node computes."""


def smooth_gap(f: Smooth, slope: Tensor, lower: Tensor, upper: Tensor, *, above: bool) -> Tensor:
    """At most ``f(x) - s x`` on the interval; with ``above``, at most its negative.

    Minus infinity or NaN where the interval leaves what f is defined on.
    """
    found = _of_pieces(f, slope, lower, upper, above)
    if f.mirror:
        # With y = -x: f(x) - s x = m (f(y) + m s y).
        other = _of_pieces(f, -f.mirror * slope, -upper, -lower, above != (f.mirror < 0))
        found = torch.where(upper < 0, other, found)
    return found


def _of_pieces(f: Smooth, slope: Tensor, lower: Tensor, upper: Tensor, above: bool) -> Tensor:
    middle = lower.clamp_min(0).minimum(upper)
    pieces = [(lower, middle, f.convex[0], lower < 0), (middle, upper, f.convex[1], upper > 0)]
    if f.convex[0] == f.convex[1]:
        pieces = [(lower, upper, f.convex[0], torch.ones_like(lower, dtype=torch.bool))]
    found = torch.minimum(_value(f, slope, lower, above)[0], _value(f, slope, upper, above)[0])
    for left, right, convex, there in pieces:
        if convex != above:
            inside = _beneath_tangent(f, slope, left, right, above)
            found = torch.where(there, torch.minimum(found, inside), found)
    return torch.where(lower > f.least, found, -torch.inf)


def _value(f: Smooth, slope: Tensor, x: Tensor, above: bool) -> tuple[Tensor, Tensor]:
    """``+-(f(x) - s x)`` moved down by its roundings, and its derivative with a bound of theirs."""
    sign = -1.0 if above else 1.0
    y, line, rise = f.function(x), slope * x, f.slope(x)
    value = sign * (y - line) - ULPS * UNIT * (y.abs() + line.abs()) - UNDERFLOW
    return value, sign * (rise - slope)


def _beneath_tangent(f: Smooth, slope: Tensor, left: Tensor, right: Tensor, above: bool) -> Tensor:
    """A convex function lies above its tangent; the place is sought, the tangent is computed."""
    low, high = torch.broadcast_tensors(left, right)
    low, high = (side.expand(np.broadcast_shapes(side.shape, slope.shape)) for side in (low, high))
    a, b = low, high
    for _ in range(BISECTIONS):
        x = (a + b) / 2
        rising = _value(f, slope, x, above)[1] > 0
        a, b = torch.where(rising, a, x), torch.where(rising, x, b)
    x = (a + b) / 2
    value, tilt = _value(f, slope, x, above)
    # The derivative is right to some units in the last place of its parts.
    loose = 4 * ULPS * UNIT * (f.slope(x).abs() + slope.abs()) + UNDERFLOW
    back, ahead = x - low, high - x
    fall = torch.maximum((tilt + loose) * back, (loose - tilt) * ahead).clamp_min(0)
    return value - fall * (1 + 8 * UNIT)
