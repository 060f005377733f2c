"""Stability training (Li et al., NeurIPS 2019, after Zheng et al., CVPR 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from phalanx.losses import Batch, losses
from phalanx.losses._member import MemberLoss, Score, Shown, Weight, under


@losses.register("stability")
class Stability(MemberLoss):
    """Right on clean images, and the same on noisy ones.

    ``-log softmax(f(x))_y + lbd * CE(softmax(f(x)), f(x + sigma eps))``; gradients flow through
    both sides of the second term, as in the published code. Draws: noise 0.

    Attributes:
        lbd: weight of the second term; published: 2.
    """

    replayable: ClassVar[bool] = True
    lbd: Weight = 2.0

    def inputs(self, member: nn.Module, batch: Batch) -> Shown:
        """Two passes: the noisy images, the clean ones."""
        return Shown((under(batch.x, self.noises(batch, 1)), batch.x))

    def score(self, logits: Sequence[Tensor], shown: Shown, batch: Batch) -> Score:
        """Both terms; the metric shows the second one unweighted."""
        noisy, clean = logits
        instability = cross_entropy(noisy, clean.softmax(-1))
        loss = cross_entropy(clean, batch.y) + self.lbd * instability
        return Score(loss, {"instability": instability})
