"""Softmax confidences from margins, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor


def confidences(margins: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of ``softmax(z)_c`` from lower bounds ``(C, C, B)`` of ``z_c - z_j``: ``(C, B)`` each.

    ``1 / sum_j exp(z_j - z_c)`` rises with every margin of c and falls with those over c.

    >>> low, high = confidences(torch.zeros(2, 2, 1))  # neither class can fall behind
    >>> low.flatten().tolist(), high.flatten().tolist()
    ([0.5, 0.5], [0.5, 0.5])
    """
    lower = 1 / torch.exp(-margins).sum(1)
    upper = 1 / torch.exp(margins).sum(0)
    return lower, upper


def differences(margins: Tensor) -> Tensor:
    """Lower bounds of ``softmax(z)_c - softmax(z)_j``: ``(C, C, B)``.

    With t below ``z_c - z_j``: ``p_c - p_j = p_c (1 - exp(z_j - z_c)) >= p_c (1 - exp(-t))``, and
    ``= p_j (exp(z_c - z_j) - 1) >= p_j (exp(t) - 1)``; and never below -1.
    """
    lower, upper = confidences(margins)
    ahead, behind = -torch.expm1(-margins), torch.expm1(margins)
    first = torch.where(margins > 0, lower.unsqueeze(1), upper.unsqueeze(1)) * ahead
    second = torch.where(margins > 0, lower.unsqueeze(0), upper.unsqueeze(0)) * behind
    plain = lower.unsqueeze(1) - upper.unsqueeze(0)
    found = first.fmax(second).fmax(plain).nan_to_num(-1.0).clamp_min(-1.0)
    own = torch.eye(len(margins), dtype=torch.bool, device=margins.device).unsqueeze(2)
    return torch.where(own, 0.0, found)


def least_confidence(margins: Tensor, rows: Tensor) -> Tensor:
    """Lower bounds ``(S, B)`` of rows ``(S, B, C)`` of one member's softmax.

    Every row by the bounds of each class; one that is a class less another (times a number) by
    their difference too.
    """
    lower, upper = confidences(margins)
    found = (rows.clamp_min(0) * lower.T + rows.clamp_max(0) * upper.T).sum(2)
    most, first = rows.max(2)
    least, other = rows.min(2)
    pair = (most == -least) & ((rows != 0).sum(2) == 2)
    batch = torch.arange(rows.shape[1], device=rows.device).expand(rows.shape[:2])
    apart = most * differences(margins)[first, other, batch]
    return torch.where(pair, found.fmax(apart), found)
