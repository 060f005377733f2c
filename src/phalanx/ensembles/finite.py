"""Broken logits stay broken: no reducer may turn NaN or infinity into a class."""

from __future__ import annotations

import torch
from torch import Tensor


def finite_rows(logits: Tensor) -> Tensor:
    """bool ``(B,)``: whether every logit of every member ``(M, B, C)`` is finite."""
    return torch.isfinite(logits).all(-1).all(0)


def poison(scores: Tensor, logits: Tensor) -> Tensor:
    """``scores`` ``(B, C)`` with NaN in every row whose logits ``(M, B, C)`` are not finite.

    Counting votes, or a softmax of -inf, would hide a broken member; this keeps it visible.

    >>> poison(torch.ones(1, 2), torch.tensor([[[0.0, float("nan")]]]))
    tensor([[nan, nan]])
    """
    return scores.masked_fill(~finite_rows(logits).unsqueeze(-1), float("nan"))
