"""Boxes that wait to be bounded, as a structure of arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Boxes:
    """Sub-boxes of the cases' boxes.

    Attributes:
        lower, upper: of the free inputs, ``(N, n0)``, float64.
        group: which of the cases' boxes each is a part of, ``(N,)``.
        refuted: cases that have no counterexample in it, ``(N, K)``.
        bound: a lower bound from a box around it, ``(N,)``.
        near: how near a point of a box around it came to a counterexample, ``(N,)``.
        number: its own, where cuts are kept, ``(N,)``.
    """

    lower: Tensor
    upper: Tensor
    group: Tensor
    refuted: Tensor
    bound: Tensor
    near: Tensor
    number: Tensor

    def __len__(self) -> int:
        return len(self.bound)

    def __getitem__(self, index: Tensor | slice) -> Boxes:
        return Boxes(*(getattr(self, part.name)[index] for part in fields(self)))


def joined(*parts: Boxes) -> Boxes:
    """All of them, in order."""
    return Boxes(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Boxes)))


class Pool:
    """Half of those taken have the worst bounds, half seem nearest to a counterexample.

    Where too many wait, the newest are taken, which are the smallest.

    Depth first, a search holds few boxes for each of its levels, so memory stays bounded.

    Args:
        boxes: to begin with.
        limit: how many may wait before the newest come first.
    """

    def __init__(self, boxes: Boxes, limit: int) -> None:
        self._boxes, self._limit = boxes, limit

    def __len__(self) -> int:
        return len(self._boxes)

    def lowest(self) -> float:
        """The least bound of all that wait; infinity where none does."""
        return float(self._boxes.bound.min()) if len(self) else torch.inf

    def push(self, boxes: Boxes) -> None:
        """More of them."""
        self._boxes = joined(self._boxes, boxes)

    def pop(self, count: int) -> Boxes:
        """At most ``count`` boxes."""
        every = len(self._boxes)
        if every <= count:
            taken, self._boxes = self._boxes, self._boxes[:0]
        elif every > self._limit:
            taken, self._boxes = self._boxes[every - count :], self._boxes[: every - count]
        else:
            half = (count + 1) // 2
            rest = torch.ones(every, dtype=torch.bool)
            rest[self._boxes.near.topk(half, largest=False).indices] = False
            bound = torch.where(rest, self._boxes.bound, torch.inf)
            rest[bound.topk(count - half, largest=False).indices] = False
            taken, self._boxes = self._boxes[~rest], self._boxes[rest]
        return taken
