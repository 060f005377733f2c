"""SmoothMix: mixing towards adversarial images (Jeong et al., NeurIPS 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from phalanx.losses import Batch, losses
from phalanx.losses._adversary import TINY, shortened, spread, unit
from phalanx.losses._member import (
    Count,
    MemberLoss,
    Score,
    Shown,
    Weight,
    by_draw,
    repeated_labels,
    under,
    warmed_up,
)
from phalanx.losses._smoothed import Smoothed, log_mean_softmax

Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@losses.register("smoothmix")
class SmoothMix(MemberLoss):
    """Less confident along the way to an adversarial image, up to none half-way.

    ``num_steps`` steps of length ``step_size`` along the gradient of the smoothed member's
    loss, not kept near the image, end at ``x_adv``; ``x_0`` is the image after ``mix_step`` of
    them (0: the image itself). With ``F_i = softmax(f(x_0 + sigma eps_i))``, their mean
    ``Fbar`` and ``u ~ U(0, 1/2)``: ``mean_i -log F_i(y) + eta * [Fbar is right] * mean_i KL((1 -
    u) Fbar + u / C || softmax(f((1 - u) x_0 + u x_adv + sigma eps_i)))``, mean over the batch;
    gradients flow through ``Fbar`` too, as in the published code.

    Draws: noises 0 .. ``num_noise`` - 1, the same for the adversary and both passes; ``u`` from
    torch's generator, which the trainer seeds anew for every step. The published code splits
    each batch of 256 images into ``num_noise`` parts and takes a step on each; the same is a
    recipe with ``batch = 256 / num_noise``.

    Attributes:
        num_noise: draws an image; published: on MNIST 4, on CIFAR-10 2.
        num_steps: steps of the adversary; published: on MNIST 8, on CIFAR-10 4.
        step_size: their length in input units; published: on MNIST 1; on CIFAR-10 0.5, 1 and 2
            at sigma 0.25, 0.5 and 1.
        mix_step: steps that ``x_0`` takes, at most ``num_steps`` - 1; published: 1 (0 for
            CIFAR-10 at sigma 0.25).
        eta: weight of the mixed images; published: 5 (1 on ImageNet).
        max_norm: distance ``x_adv`` is kept within. None: any; the images' range bounds it.
        max_norm_start: the same for ``x_0``. None: ``mix_step * step_size``.
        warmup_epochs: epochs over which ``eta`` and ``max_norm_start`` rise to their values, a
            step each epoch; published: 10. 0: at once.
    """

    replayable: ClassVar[bool] = True
    num_noise: Count = 4
    num_steps: Count = 8
    step_size: Length = 1.0
    mix_step: Annotated[int, Field(ge=0)] = 1
    eta: Weight = 5.0
    max_norm: Length | None = None
    max_norm_start: Length | None = None
    warmup_epochs: Weight = 10.0

    @model_validator(mode="after")
    def _starts_before_it_ends(self) -> SmoothMix:
        if self.mix_step >= self.num_steps:
            raise ValueError(f"mix_step is {self.mix_step} of {self.num_steps} steps")
        return self

    def inputs(self, member: nn.Module, batch: Batch) -> Shown:
        """Two passes: the (one-step) images and the mixed ones, each under every draw."""
        noises = self.noises(batch, self.num_noise)
        start, end = self.journey(member, batch, noises)
        u = torch.rand(len(batch.x), device=batch.x.device) / 2
        mixed = start + spread(u, start) * (end - start)
        return Shown((under(start, noises), under(mixed, noises)), mixed=u)

    def journey(
        self, member: nn.Module, batch: Batch, noises: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Where mixing starts and where it would end: ``x_0`` and ``x_adv``, without a graph."""
        smoothed, x = Smoothed(member, batch.y, noises), batch.x
        start = x
        for step in range(self.num_steps):
            start = x if step == self.mix_step else start
            x = x + self.step_size * unit(smoothed.gradient(x)[0])
            x = self.kept(x, batch, self.max_norm)
        longest = self.max_norm_start or self.mix_step * self.step_size
        return self.kept(start, batch, longest * warmed_up(batch, self.warmup_epochs)), x

    def kept(self, x: Tensor, batch: Batch, longest: float | None) -> Tensor:
        """``x`` no further than ``longest`` from the images, and in their range."""
        near = x if longest is None else batch.x + shortened(x - batch.x, longest)
        return near.clamp(*batch.value_range)

    def score(self, logits: Sequence[Tensor], shown: Shown, batch: Batch) -> Score:
        """Both terms; the metrics show the second one unweighted and where it counts."""
        plain, mixed = logits
        mean = log_mean_softmax(by_draw(plain, batch)).exp()
        u = torch.zeros_like(batch.y) if shown.mixed is None else shown.mixed
        # Never 0, where the divergence has no slope: u may be 0, and a probability round to it.
        target = ((1 - u[:, None]) * mean + u[:, None] / mean.shape[-1]).clamp_min(TINY)
        each = kl_div(log_softmax(mixed, -1), target.repeat(self.num_noise, 1), reduction="none")
        right = (mean.argmax(-1) == batch.y).float()
        mixing = (right.repeat(self.num_noise) * each.sum(-1)).mean()
        eta = self.eta * warmed_up(batch, self.warmup_epochs)
        loss = cross_entropy(plain, repeated_labels(plain, batch)) + eta * mixing
        return Score(loss, {"mixing": mixing, "mixed": right.mean()})
