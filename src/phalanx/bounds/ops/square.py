"""``x^2``."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, rows
from phalanx.bounds.ops._curves import Bent, extremes
from phalanx.graph.ir import Node


class Square(Bent):
    """Convex: tangent below, chord above."""

    def slope(self, x: Tensor) -> Tensor:
        """The derivative."""
        return 2 * x

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It turns at zero."""
        return extremes(torch.square, boxes[0], (0.0,))


rows.register("square")(Square())
