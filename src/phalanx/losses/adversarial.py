"""Adversarial training (Madry et al., ICLR 2018, arXiv 1706.06083)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from phalanx.losses import Batch, losses
from phalanx.losses._member import (
    MemberLoss,
    Score,
    Shown,
    Weight,
    repeated_labels,
    under,
    warmed_up,
)
from phalanx.losses._pgd import Ascent, ascended


@losses.register("adversarial")
class Adversarial(MemberLoss):
    """Cross entropy at the point of a ball around the image where the member does worst.

    ``-log softmax(f(x'))_y`` with ``x'`` from projected gradient ascent on the same loss.
    Published: on MNIST l_inf 0.3 in 40 steps of 0.01, on CIFAR-10 8/255 in 7 steps of 2/255; the
    member was then attacked in training mode, here in evaluation mode. With sigma above 0,
    which is not in the paper, ascent and training see the image under one noise.

    Draws: noise 0; the start of the ascent from torch's generator, which the trainer seeds
    anew for every step.

    Attributes:
        attack: norm, radius and steps, see `phalanx.losses._pgd.Ascent`.
        warmup_epochs: epochs over which the radius (and its steps) rise to their value, a step each
            epoch; published: none. Small networks that meet the whole radius at once end in one
            answer for every image.
    """

    replayable: ClassVar[bool] = True
    attack: Ascent = Ascent()
    warmup_epochs: Weight = 0.0

    def inputs(self, member: nn.Module, batch: Batch) -> Shown:
        """The moved images: one forward pass of ``B`` rows."""
        (noise,) = self.noises(batch, 1)
        attack = self.attack.grown(warmed_up(batch, self.warmup_epochs))
        moved = ascended([member], batch, noise, attack, slice(None))
        return Shown((under(moved, (noise,)),))

    def score(self, logits: Sequence[Tensor], shown: Shown, batch: Batch) -> Score:
        """Mean cross entropy."""
        return Score(cross_entropy(logits[0], repeated_labels(logits[0], batch)))
