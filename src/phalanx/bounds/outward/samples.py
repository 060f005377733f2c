"""Sine, cosine and GELU: by their values at many places of the interval and by their turns.

Between neighbours at distance h, ``f(x) - s x`` strays from the chord by at most ``h^2 max|f''| /
8``. Where the interval is wide, f's own range less the line's says more; that of horizontal lines
is the best there is.

What torch computes for sin, cos, erf and tanh in double precision is taken to be right to a few
units in the last place of the result, `ULPS` together with what is made of it; GELU's errors are
counted in units of its argument, because ``1 + erf`` cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.bounds.outward.rounding import ULPS, UNDERFLOW, UNIT, down, up
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS

SAMPLES = 64
TURN = 2 * math.pi
NEAR = 1e-12
"""How near the interval, relatively, a turn is taken to be inside: more than roundings move it."""


@dataclass(frozen=True)
class Sampled:
    """A smooth function of which the turns are known.

    Attributes:
        curvature: at least ``max |f''|``.
        range: bounds of f on an interval but for the roundings of its values at the ends.
        by_argument: errors are in units of the argument too.
    """

    curvature: float
    range: Callable[[Node, Tensor, Tensor], tuple[Tensor, Tensor]]
    by_argument: bool = False


def sampled_gap(node: Node, slope: Tensor, lower: Tensor, upper: Tensor, *, above: bool) -> Tensor:
    """At most ``f(x) - s x`` on the interval; with ``above``, at most its negative.

    >>> ends = torch.tensor([0.0]).double(), torch.tensor([4.0]).double()
    >>> flat = torch.zeros(1).double()
    >>> round(sampled_gap(Node("", "sin", (), (1,)), flat, *ends, above=True).item(), 9)
    -1.0
    """
    near = _near(node, slope, lower, upper, above)
    found = near.fmax(_far(node, slope, lower, upper, above))
    error = node.attributes.get("error", 0.0)  # of what a file computes in its place
    return down(found - error) if error else found


def _near(node: Node, slope: Tensor, lower: Tensor, upper: Tensor, above: bool) -> Tensor:
    """By samples; every rounded place is one inside, and distances are those of the places."""
    f = SAMPLED[node.op]
    sign = -1.0 if above else 1.0
    width = upper - lower
    found: Tensor | None = None
    before = last = lower
    for i in range(SAMPLES + 1):
        x = (lower + width * (i / SAMPLES)).clamp_min(lower).minimum(upper)
        x = upper if i == SAMPLES else x
        y, line = OPERATORS[node.op](node, x), slope * x
        size = y.abs() + line.abs() + (x.abs() if f.by_argument else 0.0)
        value = sign * (y - line) - ULPS * UNIT * size - UNDERFLOW
        stray = up(x - before).square() * (f.curvature * (1 + 8 * UNIT) / 8) + UNDERFLOW
        low = value if found is None else torch.minimum(value, last) - stray
        low = down(low)  # subtracting what was strayed rounds once more
        found = low if found is None else torch.minimum(found, low)
        before, last = x, value
    if found is None:
        raise RuntimeError("an interval without ends")
    return found


def _far(node: Node, slope: Tensor, lower: Tensor, upper: Tensor, above: bool) -> Tensor:
    """By the range of f and that of the line."""
    f = SAMPLED[node.op]
    low, high = f.range(node, lower, upper)
    y = -high if above else low
    size = y.abs()
    if f.by_argument:
        size = size + torch.maximum(lower.abs(), upper.abs())
    level = slope == 0
    lines = [torch.where(level, 0.0, slope * side) for side in (lower, upper)]
    line = torch.minimum(*lines) if above else -torch.maximum(*lines)
    return y + line - ULPS * UNIT * (size + line.abs()) - UNDERFLOW


def _wave(crest: float) -> Callable[[Node, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Bounds of a function of range [-1, 1] with crests at ``crest + 2 pi k``, troughs between."""

    def bounds(node: Node, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        ends = [OPERATORS[node.op](node, side) for side in (lower, upper)]
        trough = _meets(lower, upper, crest + math.pi)
        low = torch.where(trough, -1.0, torch.minimum(*ends))
        high = torch.where(_meets(lower, upper, crest), 1.0, torch.maximum(*ends))
        return low, high

    return bounds


def _meets(lower: Tensor, upper: Tensor, at: float) -> Tensor:
    """Whether ``at + 2 pi k`` may lie in the interval for some k."""
    slack = NEAR * (1 + lower.abs() + upper.abs())
    first, last = (lower - slack - at) / TURN, (upper + slack - at) / TURN
    # What is no number shows no place that is left out.
    return ~(last.floor() < first.ceil())


GELU_LEAST = {"none": -0.16997120747990368, "tanh": -0.17004075057125407}
"""Just below the minima."""
GELU_TURN = {"none": -0.7517915246935645, "tanh": -0.7524614220710163}


def _gelu_range(node: Node, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """It falls up to its only turn, then rises."""
    kind = node.attributes.get("approximate", "none")
    ends = [OPERATORS[node.op](node, side) for side in (lower, upper)]
    turn, least = GELU_TURN[kind], GELU_LEAST[kind]
    inside = (lower < turn + NEAR) & (upper > turn - NEAR)
    low = torch.where(inside, least, torch.minimum(*ends).clamp_min(least))
    return low, torch.maximum(*ends)


SAMPLED = {
    "sin": Sampled(1.0, _wave(math.pi / 2)),
    "cos": Sampled(1.0, _wave(0.0)),
    # |f''| is largest at zero: 2 phi(0) = 0.79788, of both forms.
    "gelu": Sampled(0.8, _gelu_range, by_argument=True),
}
