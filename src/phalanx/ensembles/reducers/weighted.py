"""Weighted mean of the softmax confidences (DRT's weighted ensemble)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from torch import Tensor

from phalanx.ensembles.ensemble import Reducer, reducers
from phalanx.ensembles.finite import poison
from phalanx.errors import ParameterError


def weighted_softmax(logits: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """``sum_m w_m softmax(z_m) / sum_m w_m``: scores ``(B, C)`` of logits ``(M, B, C)``.

    Source: Yang et al. 2022 (DRT), weighted ensemble (WE).

    Args:
        logits: finite rows; other rows become NaN, whatever the member's weight.
        weights: one for each member, >= 0 with a positive sum; None means equal weights.

    Raises:
        ParameterError: the number of weights is not the number of members.

    >>> import torch
    >>> weighted_softmax(torch.tensor([[[9.0, -99.0]], [[-99.0, 9.0]]]), [1, 3])
    tensor([[0.2500, 0.7500]])
    """
    confidences = logits.softmax(-1)
    if weights is None:
        return poison(confidences.mean(0), logits)
    if len(weights) != len(logits):
        raise ParameterError(
            f"{len(weights)} weights for {len(logits)} members",
            why="the weighted reducer needs one weight for each member, in their order",
        )
    shares = confidences.new_tensor([weight / math.fsum(weights) for weight in weights])
    return poison((shares.view(-1, 1, 1) * confidences).sum(0), logits)


@reducers.register("weighted")
def weighted(weights: Sequence[float] | None = None) -> Reducer:
    """Factory; option ``weights``, see `weighted_softmax`."""
    if weights is not None:
        _check(weights)
    return partial(weighted_softmax, weights=weights)


def _check(weights: Sequence[float]) -> None:
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ParameterError(
            f"reducer weights {list(weights)}",
            why="they must be finite, at least 0, and not all 0",
        )
