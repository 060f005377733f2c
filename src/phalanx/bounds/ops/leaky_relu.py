"""``max(x, 0) + slope min(x, 0)``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Cut, Lines, rows
from phalanx.bounds.ops._curves import extremes
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS


class LeakyRelu(Curve):
    """``s x + (1 - s) relu(x)``; convex for slopes s below 1, concave above."""

    parameters = 1
    cut = Cut.SIGN

    def interval(self, node: Node, *boxes: Box) -> Box:
        """At the ends, and at zero, where it turns if the slope is negative."""
        return extremes(lambda x: OPERATORS["leaky-relu"](node, x), boxes[0], (0.0,))

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """The lines of the ReLU, weighted; for a negative weight they change places."""
        s = node.attributes["slope"]
        weight = 1 - s
        inner = rows.get("relu")
        if not isinstance(inner, Curve):
            raise TypeError("the row of relu is no curve")
        found = inner.lines(node, lower, upper, place)
        zero = torch.zeros_like(found.upper_slope)
        sides = [
            (found.lower_slope, zero if found.lower_offset is None else found.lower_offset),
            (found.upper_slope, zero if found.upper_offset is None else found.upper_offset),
        ]
        if weight < 0:
            sides.reverse()
        (a, b), (c, d) = ((s + weight * slope, weight * offset) for slope, offset in sides)
        return Lines(a, b, c, d)

    def loose(self, node: Node, boxes: Sequence[Box]) -> list[Tensor]:
        """Where the sign of x is open."""
        return [(boxes[0].lower < 0) & (boxes[0].upper > 0)]


rows.register("leaky-relu")(LeakyRelu())
