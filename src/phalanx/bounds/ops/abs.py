"""``|x|``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Cut, Lines, rows
from phalanx.bounds.ops._curves import chord, extremes
from phalanx.graph.ir import Node


class Abs(Curve):
    """Convex: a line through zero of any slope in [-1, 1] below, the chord above."""

    parameters = 1
    cut = Cut.SIGN

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It turns at zero."""
        return extremes(torch.abs, boxes[0], (0.0,))

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """The parameter is the slope below, moved to [0, 1]; usually that of the wider side."""
        low, high = lower.abs(), upper.abs()
        above = chord(lower, upper, low, high, upper.sign())
        offset = torch.maximum(low - above * lower, high - above * upper)
        tilt = (
            torch.where(high >= low, 1.0, -1.0).to(lower.dtype)
            if place is None
            else 2 * place[0] - 1
        )
        known = (lower >= 0).to(lower.dtype) - (upper <= 0).to(lower.dtype)
        below = torch.where((lower < 0) & (upper > 0), tilt, known)
        return Lines(below, None, above, offset)

    def start(self, node: Node, boxes: Sequence[Box], *, parallel: bool = False) -> Tensor:
        """The slope of the wider side, or that of the chord."""
        lines = self.lines(node, *boxes[0], None)
        slope = lines.upper_slope if parallel else lines.lower_slope
        return ((slope + 1) / 2).expand(1, 1, *slope.shape)

    def loose(self, node: Node, boxes: Sequence[Box]) -> list[Tensor]:
        """Where the sign of x is open."""
        return [(boxes[0].lower < 0) & (boxes[0].upper > 0)]


rows.register("abs")(Abs())
