"""SmoothAdv: adversarial training of the smoothed member (Salman et al., NeurIPS 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from phalanx.losses import Batch, losses
from phalanx.losses._adversary import Adversary
from phalanx.losses._member import Count, MemberLoss, Score, Shown, repeated_labels, under


@losses.register("smoothadv")
class SmoothAdv(MemberLoss):
    """Cross entropy under ``num_noise`` noises at the image where the smoothed member does worst.

    The adversary raises ``-log mean_i softmax(f(x' + sigma eps_i))_y`` over ``x'`` near ``x``
    with the same noises that the step then trains on: ``mean_i -log softmax(f(x' + sigma
    eps_i))_y``. Its gradients stop at the image.

    Draws: noises 0 .. ``num_noise`` - 1. The published code splits each batch of 256 images
    into ``num_noise`` parts and takes a step on each; the same is a recipe with
    ``batch = 256 / num_noise``.

    Attributes:
        num_noise: draws an image; published on MNIST: 4.
        adversary: radius, steps and warm-up, see `phalanx.losses._adversary.Adversary`.
    """

    replayable: ClassVar[bool] = True
    num_noise: Count = 4
    adversary: Adversary = Adversary()

    def inputs(self, member: nn.Module, batch: Batch) -> Shown:
        """The moved images under every draw, in one forward pass."""
        noises = self.noises(batch, self.num_noise)
        return Shown((under(self.adversary.move(member, batch, noises), noises),))

    def score(self, logits: Sequence[Tensor], shown: Shown, batch: Batch) -> Score:
        """Mean cross entropy over draws and images."""
        return Score(cross_entropy(logits[0], repeated_labels(logits[0], batch)))
