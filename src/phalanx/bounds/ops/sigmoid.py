"""``1 / (1 + exp(-x))``."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Cut, Lines, monotone, rows
from phalanx.bounds.ops._curves import s_shaped_lines
from phalanx.graph.ir import Node


class Sigmoid(Curve):
    """S-shaped around 1/2; parameters: where the tangents below and above touch."""

    parameters = 2
    cut = Cut.TURN

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It rises."""
        return monotone(torch.sigmoid, boxes[0])

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """Those of ``sigmoid(x) - 1/2 = tanh(x / 2) / 2``, which is odd."""
        found = s_shaped_lines(_centred, _slope, lower, upper, place)
        offsets = found.lower_offset, found.upper_offset
        below, above = (0.5 if offset is None else offset + 0.5 for offset in offsets)
        return Lines(found.lower_slope, _tensor(below), found.upper_slope, _tensor(above))


def _centred(x: Tensor) -> Tensor:
    return torch.tanh(x / 2) / 2


def _slope(x: Tensor) -> Tensor:
    return (1 - torch.tanh(x / 2).square()) / 4


def _tensor(value: Tensor | float) -> Tensor:
    return torch.as_tensor(value)


rows.register("sigmoid")(Sigmoid())
