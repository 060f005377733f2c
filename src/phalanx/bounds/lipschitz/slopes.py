"""Between which slopes a curve runs on an interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from phalanx.bounds.ops import Box
from phalanx.graph.ir import Node

Slopes = Callable[[Node, Box], Box]
"""Bounds of ``(f(x) - f(y)) / (x - y)`` for x and y in a box, entry by entry."""

GELU = 1.13
"""Above the largest slope of both forms (1.1290), ``GELU - 1`` below zero the smallest."""


def _relu(node: Node, box: Box) -> Box:
    return _both(box.lower >= 0, box.upper > 0, box)


def _clip(node: Node, box: Box) -> Box:
    low, high = node.attributes["low"], node.attributes["high"]
    inside = (box.lower >= low) & (box.upper <= high)
    return _both(inside, (box.upper > low) & (box.lower < high), box)


def _both(lower: Tensor, upper: Tensor, box: Box) -> Box:
    return Box(lower.to(box.lower.dtype), upper.to(box.lower.dtype))


def _leaky(node: Node, box: Box) -> Box:
    slope = node.attributes["slope"]
    on, off, one = box.lower >= 0, box.upper <= 0, torch.ones_like(box.lower)
    low = torch.where(on, one, torch.where(off, slope * one, min(1.0, slope) * one))
    high = torch.where(on, one, torch.where(off, slope * one, max(1.0, slope) * one))
    return Box(low, high)


def _abs(node: Node, box: Box) -> Box:
    low = torch.where(box.lower >= 0, 1.0, -1.0)
    return _both(low, torch.where(box.upper <= 0, -1.0, 1.0), box)


def _bell(slope: Callable[[Tensor], Tensor]) -> Slopes:
    """Of a curve whose slope is largest at zero and falls to both sides."""

    def bounds(node: Node, box: Box) -> Box:
        nearest = torch.zeros_like(box.lower).maximum(box.lower).minimum(box.upper)
        return Box(slope(box.lower).minimum(slope(box.upper)), slope(nearest))

    return bounds


def _rising(slope: Callable[[Tensor], Tensor]) -> Slopes:
    """Of a convex curve: the slopes at the ends."""
    return lambda node, box: Box(slope(box.lower), slope(box.upper))


def _between(low: float, high: float) -> Slopes:
    return lambda node, box: Box(torch.full_like(box.lower, low), torch.full_like(box.lower, high))


SLOPES: Mapping[str, Slopes] = {
    "relu": _relu,
    "leaky-relu": _leaky,
    "clip": _clip,
    "abs": _abs,
    "sigmoid": _bell(lambda x: torch.sigmoid(x) * torch.sigmoid(-x)),
    "tanh": _bell(lambda x: (1 - torch.tanh(x)) * (1 + torch.tanh(x))),
    "exp": _rising(torch.exp),
    "square": _rising(lambda x: 2 * x),
    "sin": _between(-1.0, 1.0),
    "cos": _between(-1.0, 1.0),
    "gelu": _between(1 - GELU, GELU),
}
"""By operator; one that is missing has no bounded slope, or none that is known here."""


def anywhere(node: Node) -> float:
    """The largest absolute slope on all numbers: infinite for ``exp`` and its like.

    >>> anywhere(Node("a", "sigmoid", ("x",), (1,)))
    0.25
    """
    line = torch.full((1,), torch.inf, dtype=torch.float64)
    found = SLOPES[node.op](node, Box(-line, line))
    return float(torch.maximum(found.lower.abs(), found.upper.abs()))
