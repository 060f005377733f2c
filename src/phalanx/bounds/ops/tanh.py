"""The hyperbolic tangent."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Cut, Lines, monotone, rows
from phalanx.bounds.ops._curves import s_shaped_lines
from phalanx.graph.ir import Node


class Tanh(Curve):
    """S-shaped; parameters: where the tangents below and above touch."""

    parameters = 2
    cut = Cut.TURN

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It rises."""
        return monotone(torch.tanh, boxes[0])

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """Chords and tangents."""
        return s_shaped_lines(torch.tanh, lambda x: 1 - torch.tanh(x).square(), lower, upper, place)


rows.register("tanh")(Tanh())
