"""Hard vote: which classes each member can still vote for."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.reductions import Members, reductions


@reductions.register("vote")
def vote(members: Members, rows: Tensor) -> Tensor:
    """``sum_m min over the classes k that member m may vote for of rows_k``.

    A member cannot vote for k where another class is ahead of it on the whole region.
    """
    total = rows.new_zeros(rows.shape[:2])
    for possible in candidates(members.margins):
        total = total + torch.where(possible.T, rows, torch.inf).amin(2)
    return total


def candidates(margins: Tensor) -> Tensor:
    """Classes each member may vote for: bool ``(M, C, B)``, from its margins ``(M, C, C, B)``.

    >>> margins = torch.tensor([[0.0, 1.0], [-2.0, 0.0]]).view(1, 2, 2, 1)
    >>> candidates(margins).flatten().tolist()
    [True, False]
    """
    possible = ~(margins > 0).any(1)
    # Roundings may leave none; then nothing is known.
    return possible | ~possible.any(1, keepdim=True)
