"""The adversary of SmoothAdv (Salman et al., NeurIPS 2019): moves images against a member."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from phalanx.losses import Batch
from phalanx.losses._member import Count, Weight, warmed_up
from phalanx.losses._smoothed import Smoothed

GREYS = 256
TINY = 1e-12


class Adversary(BaseModel):
    """Where the smoothed member's loss is largest near an image, in the Euclidean norm.

    Attributes:
        attack: ``pgd``: steps of ``2 eps / num_steps`` along the gradient, back into the ball
            of radius ``eps``. ``ddn`` (Rony et al. 2019): the norm grows by ``gamma`` while
            the member is right and shrinks while it is wrong; the smallest image that misleads
            it is kept, then pulled into the ball; where none does, the image is left alone.
        eps: radius in input units; published on MNIST 1 (255/256), on CIFAR-10 up to 2.
        num_steps: gradient steps; published: 10 (2 for the cheap models).
        warmup_epochs: epochs over which ``eps`` rises to its value, a step each epoch;
            published: 10. 0: at once.
        gamma: of ``ddn``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attack: Literal["pgd", "ddn"] = "pgd"
    eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    num_steps: Count = 10
    warmup_epochs: Weight = 10.0
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.05

    def move(self, member: nn.Module, batch: Batch, noises: Sequence[Tensor]) -> Tensor:
        """The images where ``member`` under ``noises`` does worst: like ``batch.x``, no graph.

        They stay inside `Batch.value_range`. The noises are those of the training step that
        follows, as published.
        """
        eps = self.eps * warmed_up(batch, self.warmup_epochs)
        smoothed = Smoothed(member, batch.y, noises)
        if self.attack == "ddn":
            return decoupled(smoothed, batch, eps, self.num_steps, gamma=self.gamma)
        x = batch.x
        for _ in range(self.num_steps):
            gradient, _ = smoothed.gradient(x)
            x = (x + 2 * eps / self.num_steps * unit(gradient)).clamp(*batch.value_range)
            x = batch.x + shortened(x - batch.x, eps)
        return x


def decoupled(smoothed: Smoothed, batch: Batch, eps: float, steps: int, *, gamma: float) -> Tensor:
    """Decoupled direction and norm (Rony et al., CVPR 2019), the norm starting at ``eps``.

    As in SmoothAdv's code a majority of the noises decides whether the member is wrong, the
    images are rounded to 256 greys (in the end too, so the ball is left by half a grey at
    most), and the direction is followed with a rate that falls along a cosine from 1 to 0.01.
    """
    low, high = batch.value_range
    grey = (high - low) / (GREYS - 1)
    furthest = norms(torch.maximum(batch.x - low, high - batch.x))
    delta, kept = torch.zeros_like(batch.x), torch.zeros_like(batch.x)
    norm, smallest = torch.full_like(furthest, eps), furthest.clone()
    for step in range(steps):
        gradient, logits = smoothed.gradient(batch.x + delta)
        wrong = logits.argmax(-1).mode(0).values != batch.y
        length = norms(delta)
        better = wrong & (length < smallest)
        smallest = torch.where(better, length, smallest)
        kept = torch.where(spread(better, delta), delta, kept)
        rate = 0.01 + 0.99 * (1 + math.cos(math.pi * (step + 1) / steps)) / 2
        norm = (norm * torch.where(wrong, 1 - gamma, 1 + gamma)).minimum(furthest)
        delta = spread(norm, delta) * unit(delta + rate * unit(gradient))
        moved = low + ((batch.x + delta - low) / grey).round() * grey
        delta = moved.clamp(low, high) - batch.x
    kept = (shortened(kept, eps) / grey).round() * grey
    return (batch.x + kept).clamp(low, high)


def norms(x: Tensor) -> Tensor:
    """Euclidean norm of every row: ``(B, *shape)`` to ``(B,)``."""
    return x.flatten(1).norm(dim=1)


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
