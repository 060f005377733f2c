"""The cosine."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, rows
from phalanx.bounds.ops._curves import Smooth
from phalanx.bounds.ops._waves import wave_box
from phalanx.graph.ir import Node


class Cos(Smooth):
    """By samples; ``|f''| <= 1``."""

    def interval(self, node: Node, *boxes: Box) -> Box:
        """Up to one where a crest or a trough is inside."""
        return wave_box(boxes[0], crest=0.0)

    def curvature(self, node: Node, lower: Tensor, upper: Tensor) -> Tensor:
        """One."""
        return torch.ones_like(lower)


rows.register("cos")(Cos())
