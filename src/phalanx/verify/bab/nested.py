"""Bounds of boxes in boxes, each by the smallest network that was made for a box around it.

A network of thousands of ReLUs takes a second for a box, and most of them are settled on a part of
it. So a box that settles a quarter of its network gets one of its own, for the boxes that it will
be cut into.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from phalanx.verify.bab.bounders import DenseBounder
from phalanx.verify.bab.narrow import narrowed, settled
from phalanx.verify.bab.walk import Linear, Walk

HEAVY = 1 << 16
"""Numbers of a network from which on smaller ones are made for parts of its box."""

GAIN = 0.75
"""Share of a network's ReLUs, and of its numbers, that may be left in one for a part."""

MOST_NETWORKS, MOST_NUMBERS = 256, 1 << 24
"""How many networks are kept, and their numbers together; the root is not counted."""


@dataclass(eq=False)
class _Part:
    """A box and the network for it.

    Attributes:
        lower, upper: ``(n0,)``.
        above: of a box around it, whose network this one's is made of when it is first asked.
        sides: what its curves read on this box.
        bounder: None until then.
        used: when it was last asked.
    """

    lower: Tensor
    upper: Tensor
    above: DenseBounder
    sides: Sequence[tuple[Tensor, Tensor]] = ()
    bounder: DenseBounder | None = None
    used: int = 0

    def ready(self) -> DenseBounder:
        """The network, made if it has to be; the one above, if that is no larger."""
        if self.bounder is None:
            whole = self.above
            boxes = [(low.double(), high.double()) for low, high in self.sides]
            small = narrowed(whole.network, boxes)
            worth = small.numbers <= GAIN * whole.network.numbers
            self.bounder, self.sides = DenseBounder(small) if worth else whole, ()
        return self.bounder


def nested(
    bounder: DenseBounder | None, lower: Tensor, upper: Tensor
) -> DenseBounder | NestedBounder | None:
    """A bounder that makes networks for parts of a flat box, where its own is heavy."""
    if bounder is None or bounder.network.numbers < HEAVY:
        return bounder
    return NestedBounder(bounder, lower[bounder.free], upper[bounder.free])


class NestedBounder:
    """See `DenseBounder`; for networks that are heavy on the whole box.

    Args:
        root: of the whole box.
        lower, upper: the box, ``(n0,)``.
    """

    arithmetic = "outward"
    batch = 4096

    def __init__(self, root: DenseBounder, lower: Tensor, upper: Tensor) -> None:
        self.free = root.free
        self._parts = [_Part(lower, upper, root, bounder=root)]
        self._asked = 0

    def least(
        self, lower: Tensor, upper: Tensor, rows: Tensor, inputs: Tensor | None, offset: Tensor
    ) -> Linear:
        """See `Walk.least`."""
        found: Linear | None = None
        self._asked += 1
        for part, boxes in self._around(lower, upper):
            bounder, part.used = part.ready(), self._asked
            for some in boxes.split(bounder.batch):
                given = None if inputs is None else inputs[:, some]
                linear, walk = bounder.walked(
                    lower[some], upper[some], rows[:, some], given, offset[:, some]
                )
                self._keep(bounder, walk, lower[some], upper[some])
                found = found or _blank(linear, len(lower))
                for field in fields(Linear):
                    getattr(found, field.name)[:, some] = getattr(linear, field.name)
        self._drop()
        if found is None:
            raise ValueError("no boxes")
        return found

    def _around(self, lower: Tensor, upper: Tensor) -> list[tuple[_Part, Tensor]]:
        """The boxes by the last part that holds them: parts within a part come after it."""
        lowers = torch.stack([part.lower for part in self._parts])
        uppers = torch.stack([part.upper for part in self._parts])
        holds = ((lowers <= lower[:, None]) & (uppers >= upper[:, None])).all(2)
        last = len(self._parts) - 1 - holds.flip(1).int().argmax(1)
        return [(self._parts[k], (last == k).nonzero().squeeze(1)) for k in last.unique().tolist()]

    def _keep(self, above: DenseBounder, walk: Walk, lower: Tensor, upper: Tensor) -> None:
        """Parts for the boxes that leave little of a heavy network open."""
        if above.network.numbers < HEAVY:
            return
        count = torch.zeros(len(lower))
        for layer, read in zip(above.network.layers, walk.boxes, strict=True):
            passes, zero = settled(layer.node.op, *read)
            count += (~passes & ~zero).sum(1)
        few = (count <= GAIN * above.network.neurons).nonzero().squeeze(1)
        for box in few[:MOST_NETWORKS].tolist():
            sides = [(low[box].clone(), high[box].clone()) for low, high in walk.boxes]
            self._parts.append(_Part(lower[box], upper[box], above, sides, used=self._asked))

    def _drop(self) -> None:
        """Those that were not asked for longest, where there are too many."""
        root, parts = self._parts[0], self._parts[1:]
        kept: set[int] = set()
        numbers = 0
        for part in sorted(parts, key=lambda part: -part.used):
            numbers += 0 if part.bounder is None else part.bounder.network.numbers
            if len(kept) < MOST_NETWORKS and numbers <= MOST_NUMBERS:
                kept.add(id(part))
        self._parts = [root, *(part for part in parts if id(part) in kept)]


def _blank(like: Linear, boxes: int) -> Linear:
    """For so many boxes."""
    values = (getattr(like, field.name) for field in fields(Linear))
    return Linear(*(v.new_zeros(v.shape[0], boxes, *v.shape[2:]) for v in values))
