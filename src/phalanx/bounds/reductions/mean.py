"""Mean of the logits: one network whose last layer averages."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.joint import joint
from phalanx.bounds.reductions import Members, reductions


@reductions.register("mean")
def mean(members: Members, rows: Tensor) -> Tensor:
    """The joint graph, and the members apart.

    With linear bounds the joint graph gives ``min_x sum_m (A_m x + d_m) / M``, which is at least
    the mean of the members' own minima: no input has to be the worst one for all of them. A method
    that chooses the better of two bounds may choose for each member alone, and one that optimises
    may stop elsewhere, so the mean of the members' bounds is asked for too: the answer is never
    below.
    """
    count = len(members.graphs)
    whole = members.bound(joint(members.graphs, [1 / count] * count, rows.dtype), rows)
    apart = [members.bound(graph, rows) for graph in members.graphs]
    return whole.fmax(torch.stack(apart).mean(0))
