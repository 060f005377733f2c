"""Which unit is worth deciding: what its relaxation may cost a sub-problem's bound."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.verify.bab.splits import Domains


def babsr(domains: Domains, met: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How much each open unit's relaxation may cost its domain's bound, ``(D, T)``.

    Where the row falls in the unit's answer, the line above lies at most ``-u l / (u - l)`` above
    the curve; where it rises, the line below lies at most ``max(-a l, (1 - a) u)`` below it. As in
    BaBSR (Bunel et al. 2020), the worst is split first.
    """
    alpha = domains.alpha.float()
    above = -high * low / (high - low)
    below = torch.minimum(-alpha * low, (1 - alpha) * high).clamp_min(0)
    below = torch.maximum(below, 0.1 * torch.maximum(-alpha * low, (1 - alpha) * high))
    cost = met.clamp_max(0).abs() * above + met.clamp_min(0) * below
    return torch.where(domains.signs == 0, cost.float(), -1.0)


def gaps(domains: Domains, met: Tensor, read: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How much the lines of each open unit cost at what it reads where the bound is least."""
    alpha, z = domains.alpha.float(), torch.maximum(torch.minimum(read, high), low)
    curve = z.clamp_min(0)
    above = high / (high - low) * (z - low) - curve
    cost = met.clamp_max(0).abs() * above + met.clamp_min(0) * (curve - alpha * z)
    return torch.where(domains.signs == 0, cost, -1.0)
