"""The cosine."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Lines, rows
from phalanx.bounds.ops._curves import sampled_lines
from phalanx.bounds.ops._waves import wave_box
from phalanx.graph.ir import Node


class Cos(Curve):
    """By samples; ``|f''| <= 1``."""

    def interval(self, node: Node, *boxes: Box) -> Box:
        """Up to one where a crest or a trough is inside."""
        return wave_box(boxes[0], crest=0.0)

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """Parallel to the chord, or horizontal."""
        box = self.interval(node, Box(lower, upper))
        return sampled_lines(torch.cos, lower, upper, torch.ones_like(lower), box)


rows.register("cos")(Cos())
