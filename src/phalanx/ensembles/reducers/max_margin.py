"""The most confident member decides (DRT's max-margin ensemble)."""

from __future__ import annotations

from torch import Tensor

from phalanx.ensembles.ensemble import Reducer, reducers
from phalanx.ensembles.finite import poison


def max_margin_softmax(logits: Tensor) -> Tensor:
    """``softmax(z_k)`` with ``k = argmax_m (top1 - top2)(softmax(z_m))``.

    Scores ``(B, C)`` of logits ``(M, B, C)``; ties between members go to the lowest index.
    Source: Yang et al. 2022 (DRT), max-margin ensemble (MME).

    >>> import torch
    >>> max_margin_softmax(torch.tensor([[[0.0, 1.0]], [[3.0, 0.0]]])).argmax(-1)
    tensor([0])
    """
    confidences = logits.softmax(-1)
    first, second = confidences.topk(2, dim=-1).values.unbind(-1)
    leader = (first - second).argmax(0)
    chosen = confidences.take_along_dim(leader.view(1, -1, 1), dim=0).squeeze(0)
    return poison(chosen, logits)


@reducers.register("max-margin")
def max_margin() -> Reducer:
    """Factory; no options."""
    return max_margin_softmax
