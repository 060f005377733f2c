"""Hard vote of the members."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from phalanx.ensembles.ensemble import Reducer, reducers
from phalanx.ensembles.finite import poison


def vote_counts(logits: Tensor) -> Tensor:
    """``sum_m 1[argmax z_m = c]``: scores ``(B, C)`` of logits ``(M, B, C)``.

    A member's tie, and a tie of counts, go to the lowest class index, so that the classifier
    is a function. Source: Horvath et al. 2022 (hard voting).

    >>> import torch
    >>> vote_counts(torch.tensor([[[5.0, 0, 0]], [[0, 1, 0]], [[0, 1, 0]]]))
    tensor([[1., 2., 0.]])
    """
    votes = F.one_hot(logits.argmax(-1), logits.shape[-1])
    return poison(votes.sum(0).to(logits.dtype), logits)


@reducers.register("vote")
def vote() -> Reducer:
    """Factory; no options."""
    return vote_counts
