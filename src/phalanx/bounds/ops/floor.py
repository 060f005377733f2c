"""The largest whole number that is not above."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Lines, monotone, rows
from phalanx.graph.ir import Node


class Floor(Curve):
    """``x - 1 <= floor(x) <= x``, or horizontal lines where these are closer."""

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It never falls."""
        return monotone(torch.floor, boxes[0])

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """Horizontal over at most one step."""
        low, high = lower.floor(), upper.floor()
        slope = (high - low > 1).to(lower.dtype)
        return Lines(
            slope, torch.where(slope > 0, -1.0, low), slope, torch.where(slope > 0, 0.0, high)
        )


rows.register("floor")(Floor())
