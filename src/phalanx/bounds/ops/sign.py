"""-1, 0 or 1."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Lines, monotone, rows
from phalanx.bounds.ops._curves import flat
from phalanx.graph.ir import Node


class Sign(Curve):
    """Horizontal lines: a step has no better ones that hold on both sides for all intervals."""

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It never falls."""
        return monotone(torch.sign, boxes[0])

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """At the values of the ends."""
        return flat(Box(lower.sign(), upper.sign()))


rows.register("sign")(Sign())
