"""A smoothed network as its adversary sees it: the mean prediction under some noises.

Salman et al., "Provably robust deep learning via adversarially trained smoothed classifiers"
(NeurIPS 2019). Training against it, diagnosing it and attacking it use the same gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from phalanx.runtime.vectors import row_norms

GREYS = 256
TINY = 1e-12
Range = tuple[float, float]


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
            noisy = torch.cat([moved + noise for noise in self.noises])
            logits = self.member(noisy).float()
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


def ascended(smoothed: Smoothed, x: Tensor, eps: float, steps: int, box: Range) -> Tensor:
    """Projected gradient ascent from ``x`` ``(B, *shape)`` with steps of ``2 eps / steps``."""
    moved = x
    for _ in range(steps):
        gradient, _ = smoothed.gradient(moved)
        moved = (moved + 2 * eps / steps * unit(gradient)).clamp(*box)
        moved = x + shortened(moved - x, eps)
    return moved


def decoupled(
    smoothed: Smoothed, x: Tensor, eps: float, steps: int, *, box: Range, gamma: float
) -> Tensor:
    """Decoupled direction and norm (Rony et al., CVPR 2019), the norm starting at ``eps``.

    As in SmoothAdv's code a majority of the noises decides whether the member is wrong, the
    images are rounded to 256 greys (in the end too, so the ball is left by half a grey at
    most), and the direction is followed with a rate that falls along a cosine from 1 to 0.01.
    """
    low, high = box
    grey = (high - low) / (GREYS - 1)
    furthest = norms(torch.maximum(x - low, high - x))
    delta, kept = torch.zeros_like(x), torch.zeros_like(x)
    norm, smallest = torch.full_like(furthest, eps), furthest.clone()
    for step in range(steps):
        gradient, logits = smoothed.gradient(x + delta)
        wrong = logits.argmax(-1).mode(0).values != smoothed.y
        length = norms(delta)
        better = wrong & (length < smallest)
        smallest = torch.where(better, length, smallest)
        kept = torch.where(spread(better, delta), delta, kept)
        rate = 0.01 + 0.99 * (1 + math.cos(math.pi * (step + 1) / steps)) / 2
        norm = (norm * torch.where(wrong, 1 - gamma, 1 + gamma)).minimum(furthest)
        delta = spread(norm, delta) * unit(delta + rate * unit(gradient))
        moved = low + ((x + delta - low) / grey).round() * grey
        delta = moved.clamp(low, high) - x
    kept = (shortened(kept, eps) / grey).round() * grey
    return (x + kept).clamp(low, high)


def norms(x: Tensor) -> Tensor:
    """Euclidean norm of every row: ``(B, *shape)`` to ``(B,)``."""
    return row_norms(x.flatten(1))


def spread(values: Tensor, like: Tensor) -> Tensor:
    """One value a row, with the axes of ``like``."""
    return values.view(-1, *[1] * (like.ndim - 1))


def unit(x: Tensor) -> Tensor:
    """Every row divided by its norm; a row of zeros stays one."""
    return x / spread(norms(x).clamp_min(TINY), x)


def shortened(x: Tensor, longest: float) -> Tensor:
    """Every row at most ``longest`` long.

    >>> shortened(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.30000001192092896, 0.4000000059604645]]
    """
    return x * spread((longest / norms(x).clamp_min(TINY)).clamp_max(1.0), x)
