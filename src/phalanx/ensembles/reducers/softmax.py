"""Mean of the softmax confidences."""

from __future__ import annotations

from torch import Tensor

from phalanx.ensembles.ensemble import Reducer, reducers
from phalanx.ensembles.finite import poison


def mean_softmax(logits: Tensor) -> Tensor:
    """``(1/M) sum_m softmax(z_m)``: scores ``(B, C)`` of logits ``(M, B, C)``.

    Source: Yang et al. 2022 (DRT), the weighted ensemble with weights 1/M.

    >>> import torch
    >>> mean_softmax(torch.zeros(2, 1, 4))
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    return poison(logits.softmax(-1).mean(0), logits)


@reducers.register("softmax")
def softmax() -> Reducer:
    """Factory; no options."""
    return mean_softmax
