"""How far ``f(x) - s x`` can fall on an interval: lines are believed for their slopes only.

A slope may come from anywhere, an optimiser in single precision for instance. What the line of that
slope must be moved by is found here: of straight pieces at their corners; of a convex piece from
a tangent, whose own rounding is counted; of a concave one at its ends.

What torch computes for exp, log, sqrt, tanh and sigmoid in double precision is taken to be right
to `ULPS` units in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.bounds.outward.rounding import UNDERFLOW, UNIT
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS

ULPS = 16
BISECTIONS = 60
STRAIGHT = ("relu", "leaky-relu", "abs", "clip")
Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Smooth:
    """A function that is convex or concave left and right of a place.

    Attributes:
        function, slope: f and its derivative.
        convex: left and right of zero.
        least: what its argument must be above.
    """

    function: Function
    slope: Function
    convex: tuple[bool, bool]
    least: float = -math.inf


def _sigmoid_slope(x: Tensor) -> Tensor:
    y = torch.sigmoid(x.abs())
    return y * torch.sigmoid(-x.abs())


SMOOTH = {
    "exp": Smooth(torch.exp, torch.exp, (True, True)),
    "square": Smooth(torch.square, lambda x: 2 * x, (True, True)),
    "log": Smooth(torch.log, torch.reciprocal, (False, False), 0.0),
    "sqrt": Smooth(torch.sqrt, lambda x: 0.5 / x.sqrt(), (False, False), 0.0),
    "reciprocal": Smooth(torch.reciprocal, lambda x: -1 / x.square(), (True, True), 0.0),
    "sigmoid": Smooth(torch.sigmoid, _sigmoid_slope, (True, False)),
    "tanh": Smooth(torch.tanh, lambda x: 1 / torch.cosh(x).square(), (True, False)),
}
CURVES = (*STRAIGHT, *SMOOTH)


def corners(node: Node) -> tuple[float, ...]:
    """Where straight pieces meet."""
    if node.op == "clip":
        return (node.attributes["low"], node.attributes["high"])
    return (0.0,)


def gaps(node: Node, slope: Tensor, lower: Tensor, upper: Tensor, *, above: bool) -> Tensor:
    """An offset with which the line of that slope is below f on the interval (or above it).

    Args:
        node: a curve.
        slope: any finite numbers that broadcast against the interval.
        lower, upper: its ends.
        above: find the line above.

    Returns:
        Float64; infinite or NaN where f is not bounded there.

    >>> ends = torch.tensor([-1.0]).double(), torch.tensor([3.0]).double()
    >>> found = gaps(Node("", "relu", (), (1,)), torch.tensor([0.75]).double(), *ends, above=True)
    >>> 0.75 <= found.item() < 0.75 + 1e-14
    True
    """
    if node.op in STRAIGHT:
        found = _at_corners(node, slope, lower, upper, above)
    else:
        found = _of_pieces(SMOOTH[node.op], slope, lower, upper, above)
    return -found if above else found


def _at_corners(node: Node, slope: Tensor, lower: Tensor, upper: Tensor, above: bool) -> Tensor:
    sign = -1.0 if above else 1.0
    points = [lower, upper, *(lower.clamp_min(c).minimum(upper) for c in corners(node))]
    found: Tensor | None = None
    for x in points:
        y, line = OPERATORS[node.op](node, x), slope * x
        value = sign * (y - line) - 4 * UNIT * (y.abs() + line.abs()) - UNDERFLOW
        found = value if found is None else torch.minimum(found, value)
    if found is None:
        raise RuntimeError("an interval without ends")
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
    low, high = (
        side.expand(torch.broadcast_shapes(side.shape, slope.shape)) for side in (low, high)
    )
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
