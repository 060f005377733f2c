"""Confidence margins of members and their gradients, for DRT and its control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from phalanx.losses._coupled import Seen, input_gradients

Form = Literal["paper", "code"]


def margins(seen: Sequence[Seen]) -> Tensor:
    """``f^{y/y'}``: confidence in the class less that in the strongest other one, ``(M, R)``.

    Positive where the member is right.
    """
    logits = torch.stack([each.logits for each in seen])
    y = seen[0].y.expand(logits.shape[:-1]).unsqueeze(-1)
    probabilities = logits.softmax(-1)
    others = probabilities.scatter(-1, y, -math.inf).max(-1).values
    return probabilities.gather(-1, y).squeeze(-1) - others


def margins_with_gradients(seen: Sequence[Seen]) -> tuple[Tensor, Tensor]:
    """Margins ``(M, R)`` and their gradients at the inputs ``(M, R, D)``, both with a graph."""
    margin = margins(seen)
    return margin, input_gradients(list(margin), seen)


def lengths(vectors: Tensor, form: Form) -> Tensor:
    """Norm of every vector along the last axis (``paper``) or its square (``code``)."""
    return vectors.norm(dim=-1) if form == "paper" else vectors.square().sum(-1)


def averaged(values: Tensor, counts: Tensor, form: Form) -> Tensor:
    """``values`` where ``counts`` holds, as one number.

    Args:
        values: ``(n, R)``: n members, or n pairs of them.
        counts: bool ``(n, R)``.
        form: ``paper``: sum over the n, mean over all rows. ``code``: mean over what counts; 0
            where nothing does.

    >>> values, counts = torch.ones(3, 2), torch.tensor([[True, False]] * 3)
    >>> averaged(values, counts, "paper").item(), averaged(values, counts, "code").item()
    (1.5, 1.0)
    """
    total = torch.where(counts, values, 0.0).sum()
    if form == "paper":
        return total / values.shape[1]
    return total / counts.sum().clamp_min(1)
