"""The cuts of a search of boxes, kept so that somebody else can repeat them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from phalanx.verify.proof.evidence import ByBoxes


class Cuts:
    """Which box was cut where.

    Args:
        free: the flat inputs that are cut.
        roots: how many boxes there are to begin with; theirs are the first numbers.
    """

    def __init__(self, free: Tensor, roots: int) -> None:
        self._free, self._count = free, roots
        self._kept: list[tuple[Tensor, Tensor, Tensor, int]] = []

    def cut(self, number: Tensor, at: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes ``(N,)`` are cut in two; numbers of what is below, and of what is above."""
        first, count = self._count, len(number)
        self._kept.append((number, self._free[at], place, first))
        self._count += 2 * count
        new = torch.arange(first, self._count)
        return new[:count], new[count:]

    def tree(self) -> ByBoxes:
        """What became of the first box.

        >>> cuts = Cuts(torch.tensor([3]), 1)
        >>> zero, half = torch.tensor([0]), torch.tensor([0.5])
        >>> _ = cuts.cut(zero, zero, half)
        >>> cuts.tree().inputs.tolist(), cuts.tree().places.tolist()
        ([3, -1, -1], [0.5])
        """
        inputs = np.full(self._count, -1, dtype=np.int64)
        places = np.zeros(self._count)
        lower, upper = np.zeros((2, self._count), dtype=np.int64)
        for number, at, place, first in self._kept:
            here, new = number.numpy(), np.arange(len(number)) + first
            inputs[here], places[here] = at.numpy(), place.numpy()
            lower[here], upper[here] = new, new + len(number)
        order, waiting = [], [0]
        while waiting:
            now = waiting.pop()
            order.append(now)
            if inputs[now] >= 0:
                waiting += [int(upper[now]), int(lower[now])]
        walked = np.array(order, dtype=np.int64)
        return ByBoxes(inputs[walked], places[walked][inputs[walked] >= 0])
