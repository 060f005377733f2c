"""Mean of the logits."""

from __future__ import annotations

from torch import Tensor

from phalanx.ensembles.ensemble import Reducer, reducers


def mean_logits(logits: Tensor) -> Tensor:
    """``(1/M) sum_m z_m``: scores ``(B, C)`` of logits ``(M, B, C)``.

    Source: Horvath, Mueller, Fischer, Vechev 2022, the default of the paper's code (it sums;
    the decision is the same).

    >>> import torch
    >>> mean_logits(torch.tensor([[[2.0, 0.0]], [[0.0, 4.0]]]))
    tensor([[1., 2.]])
    """
    return logits.mean(0)


@reducers.register("mean")
def mean() -> Reducer:
    """Factory; no options."""
    return mean_logits
