"""Weighted mean of the softmax confidences."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from phalanx.bounds.joint import joint
from phalanx.bounds.reductions import Members, reductions
from phalanx.bounds.reductions._confidence import least_confidence


@reductions.register("weighted")
def weighted(members: Members, rows: Tensor) -> Tensor:
    """The better of two: the joint graph, and the members apart by their margins.

    Softmax is hard to relax where logits move far, and its sign is known by the margins; the joint
    graph knows that members see one input.
    """
    given = members.options.get("weights") or [1.0] * len(members.graphs)
    shares = [weight / math.fsum(given) for weight in given]
    graph = joint(members.graphs, shares, rows.dtype, softmax=True, exact=members.exact)
    whole = members.bound(graph, rows)
    apart = [
        share * least_confidence(margins, rows)
        for share, margins in zip(shares, members.margins, strict=True)
    ]
    return whole.fmax(torch.stack(apart).sum(0))
