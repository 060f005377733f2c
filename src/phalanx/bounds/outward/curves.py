"""How far ``f(x) - s x`` can fall on an interval: lines are believed for their slopes only.

A slope may come from anywhere, an optimiser in single precision for instance. What the line of that
slope must be moved by is found here: of straight pieces at their corners; of what is convex or
concave in `smooth`, of steps in `steps`, of waves in `samples`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.outward.rounding import UNDERFLOW, UNIT
from phalanx.bounds.outward.samples import SAMPLED, sampled_gap
from phalanx.bounds.outward.smooth import SMOOTH, smooth_gap
from phalanx.bounds.outward.steps import STEPS, step_gap
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS

STRAIGHT = ("relu", "leaky-relu", "abs", "clip")
CURVES = (*STRAIGHT, *SMOOTH, *STEPS, *SAMPLED)


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
    elif node.op in STEPS:
        found = step_gap(node.op, slope, lower, upper, above=above)
    elif node.op in SAMPLED:
        found = sampled_gap(node, slope, lower, upper, above=above)
    else:
        found = smooth_gap(SMOOTH[node.op](node), slope, lower, upper, above=above)
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
