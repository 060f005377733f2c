"""Gaussian data augmentation (Cohen et al., ICML 2019, section 3.3 and appendix B)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from phalanx.losses import Batch, losses
from phalanx.losses._member import MemberLoss, Score, Shown, under


@losses.register("gaussian")
class Gaussian(MemberLoss):
    """Cross entropy on ``x + sigma * eps`` with one fresh ``eps`` per image and step.

    ``-log softmax(f(x + sigma eps))_y``. Draws: noise 0.
    """

    replayable: ClassVar[bool] = True

    def inputs(self, member: nn.Module, batch: Batch) -> Shown:
        """The noisy images: one forward pass of ``B`` rows."""
        return Shown((under(batch.x, self.noises(batch, 1)),))

    def score(self, logits: Sequence[Tensor], shown: Shown, batch: Batch) -> Score:
        """Mean cross entropy."""
        return Score(cross_entropy(logits[0], batch.y))
