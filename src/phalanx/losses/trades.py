"""TRADES (Zhang et al., ICML 2019, arXiv 1901.08573)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from phalanx.losses import Batch, losses
from phalanx.losses._member import MemberLoss, Score, Shown, Weight, forward, under
from phalanx.losses._pgd import Ascent, slope
from phalanx.losses._smoothed import evaluating


def _starts_elsewhere(attack: Ascent) -> Ascent:
    if not attack.random_start:
        raise ValueError("the divergence is flat at the image: random_start must be true")
    return attack


@losses.register("trades")
class Trades(MemberLoss):
    """Right on clean images, and the same wherever an adversary goes.

    ``-log softmax(f(x))_y + beta * KL(softmax(f(x)) || softmax(f(x')))``, mean over the batch, with
    ``x'`` from projected gradient ascent on the divergence; gradients flow through both of its
    sides, as in the published code. Published: beta 6, on CIFAR-10 l_inf 0.031 in 10 steps of
    0.007, on MNIST beta 1, 0.3 in 40 steps of 0.01. The ascent starts anywhere in the ball
    (published: 0.001 of normal noise). With sigma above 0, which is not in the paper, both
    passes see one noise.

    Draws: noise 0; the start of the ascent from torch's generator, which the trainer seeds
    anew for every step.

    Attributes:
        beta: weight of the divergence.
        attack: norm, radius and steps, see `phalanx.losses._pgd.Ascent`.
    """

    replayable: ClassVar[bool] = True
    beta: Weight = 6.0
    attack: Annotated[Ascent, AfterValidator(_starts_elsewhere)] = Ascent(
        eps=0.031, step_size=0.007
    )

    def inputs(self, member: nn.Module, batch: Batch) -> Shown:
        """Two passes: the images, the moved ones."""
        (noise,) = self.noises(batch, 1)
        with evaluating(member), torch.no_grad():
            clean = forward(member, batch.x + noise).log_softmax(-1)

        def cost(x: Tensor) -> Tensor:
            return divergences(clean, log_softmax(forward(member, x + noise), dim=-1))

        moved = self.attack.move(batch.x, batch.value_range, lambda x: slope([member], cost, x))
        return Shown((under(batch.x, (noise,)), under(moved, (noise,))))

    def score(self, logits: Sequence[Tensor], shown: Shown, batch: Batch) -> Score:
        """Both terms; the metric shows the second one unweighted."""
        clean, moved = logits
        divergence = divergences(clean.log_softmax(-1), moved.log_softmax(-1)).mean()
        return Score(cross_entropy(clean, batch.y) + self.beta * divergence, {"kl": divergence})


def divergences(first: Tensor, second: Tensor) -> Tensor:
    """``KL(p || q)`` of every row, from log probabilities ``(B, C)``: ``(B,)``.

    >>> half, most = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    >>> round(divergences(half, most).item(), 4)
    0.1438
    """
    return kl_div(second, first, reduction="none", log_target=True).sum(-1)
