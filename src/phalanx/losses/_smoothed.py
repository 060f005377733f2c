"""The smoothed member as an adversary sees it, and in which the losses speak of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from phalanx.losses._member import forward, under


def log_mean_softmax(logits: Tensor) -> Tensor:
    """Logarithm of the mean prediction: ``(k, B, C)`` to ``(B, C)``, exact for small ones.

    >>> log_mean_softmax(torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]]])).exp().tolist()
    [[0.5, 0.5]]
    """
    return log_softmax(logits, dim=-1).logsumexp(0) - math.log(len(logits))


@dataclass(frozen=True)
class Smoothed:
    """A member under some noises, its loss to be raised by moving the images.

    Attributes:
        member: looked at in evaluation mode, whatever mode it is in.
        y: the images' classes ``(B,)``.
        noises: each ``(B, *shape)``, in input units.
    """

    member: nn.Module
    y: Tensor
    noises: Sequence[Tensor]

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where the loss rises at ``x``.

        Returns:
            The gradient of ``-log mean_i softmax(f(x + eps_i))_y`` of every image at itself,
            shaped like ``x``; and the logits there, ``(k, B, C)``. Neither has a graph, and
            nothing of the member changes: no gradient reaches its parameters.
        """
        with evaluating(self.member), torch.enable_grad():
            moved = x.detach().requires_grad_()
            logits = forward(self.member, under(moved, self.noises))
            logits = logits.unflatten(0, (len(self.noises), len(x)))
            likelihood = log_mean_softmax(logits).gather(1, self.y[:, None])
            (gradient,) = torch.autograd.grad(-likelihood.sum(), moved)
        return gradient, logits.detach()


@contextmanager
def evaluating(member: nn.Module) -> Iterator[None]:
    """``member`` in evaluation mode; afterwards every part is in the mode it was in.

    Batch normalisation then neither updates its statistics nor lets images mix, and dropout
    does not blur the gradient.
    """
    modes = [(part, part.training) for part in member.modules()]
    member.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
