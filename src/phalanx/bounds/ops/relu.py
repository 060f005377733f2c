"""``max(x, 0)``: the triangle of Ehlers (2017), its lower line of any slope in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Cut, Lines, monotone, rows
from phalanx.graph.ir import Node


class Relu(Curve):
    """Above: the chord ``u (x - l) / (u - l)``. Below: ``a x``.

    The usual a is 1 where ``u > -l``, else 0: the smaller area (CROWN, Zhang et al. 2018; DeepPoly,
    Singh et al. 2019). A parallel lower line is Fast-Lin's (Weng et al. 2018) and DeepZ's.
    """

    parameters = 1
    cut = Cut.SIGN

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It never falls."""
        return monotone(torch.relu, boxes[0])

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """The parameter is the slope below, where the sign of x is open."""
        below, above = lower.clamp_max(0), upper.clamp_min(0)
        width = above - below
        # A point at zero has slope 0, and no infinite derivative for those who train.
        chord = above / torch.where(width > 0, width, 1.0)
        if place is None:
            slope = torch.where((below < 0) & (above > 0), (above > -below).to(chord.dtype), chord)
        else:
            slope = torch.where((below < 0) & (above > 0), place[0], chord)
        return Lines(slope, None, chord, -chord * below)

    def start(self, node: Node, boxes: Sequence[Box], *, parallel: bool = False) -> Tensor:
        """Adaptive, or the chord's slope."""
        lines = self.lines(node, *boxes[0], None)
        slope = lines.upper_slope if parallel else lines.lower_slope
        return slope.expand(1, 1, *slope.shape)

    def dead(self, box: Box) -> Tensor | None:
        """Where x is never positive."""
        return box.upper <= 0

    def loose(self, node: Node, boxes: Sequence[Box]) -> list[Tensor]:
        """Where the sign of x is open."""
        return [(boxes[0].lower < 0) & (boxes[0].upper > 0)]


rows.register("relu")(Relu())
