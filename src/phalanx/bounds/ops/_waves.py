"""Bounds of sine and cosine on an interval."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from phalanx.bounds.ops import Box


def wave_box(box: Box, crest: float) -> Box:
    """Bounds of ``cos(x - crest)``: at the ends, and at crests and troughs between them.

    >>> wave_box(Box(torch.tensor([[-1.0]]), torch.tensor([[0.5]])), 0.0).upper.item()
    1.0
    """
    ends = torch.stack([torch.cos(box.lower - crest), torch.cos(box.upper - crest)])
    return Box(
        torch.where(_meets(box, crest + math.pi), -1.0, ends.amin(0)),
        torch.where(_meets(box, crest), 1.0, ends.amax(0)),
    )


def _meets(box: Box, at: float) -> Tensor:
    """Whether ``at + 2 pi k`` lies between the bounds for some k, or might but for roundings."""
    turn = 2 * math.pi
    slack = 1e-6 * (1 + box.lower.abs() + box.upper.abs())
    return torch.floor((box.upper + slack - at) / turn) >= torch.ceil(
        (box.lower - slack - at) / turn
    )
