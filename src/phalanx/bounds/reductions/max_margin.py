"""The most confident member decides: who can still lead."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.reductions import Members, reductions
from phalanx.bounds.reductions._confidence import differences, least_confidence

ROOM = 2.0**-49
"""So much, C + 64 times, below another's margin one still counts as leading: they are made of two
sums of C exponentials."""


@reductions.register("max-margin")
def max_margin(members: Members, rows: Tensor) -> Tensor:
    """The least that any member that may lead says.

    A member's margin, the largest over c of the smallest over j of ``p_c - p_j``, is bounded on
    both sides by the bounds of these differences; one that stays below another's cannot lead.
    """
    bounds = [_margin(differences(margins)) for margins in members.margins]
    surest = torch.stack([low for low, _ in bounds]).amax(0)
    room = ROOM * (members.classes + 64)
    least = torch.full_like(rows[:, :, 0], torch.inf)
    for margins, (_, high) in zip(members.margins, bounds, strict=True):
        own = torch.where(high >= surest - room, least_confidence(margins, rows), torch.inf)
        least = least.minimum(own)
    # A NaN's comparison leaves nobody: nothing is known then.
    return torch.where(torch.isinf(least), -torch.inf, least)


def _margin(apart: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds ``(B,)`` of the first confidence less the second, from ``(C, C, B)``."""
    own = torch.eye(len(apart), dtype=torch.bool, device=apart.device).unsqueeze(2)
    low = torch.where(own, torch.inf, apart).amin(1).amax(0)
    high = torch.where(own, torch.inf, -apart.transpose(0, 1)).amin(1).amax(0)
    return low.clamp_min(0), high
