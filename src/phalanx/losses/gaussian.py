"""Gaussian data augmentation (Cohen et al., ICML 2019, section 3.3 and appendix B)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from phalanx.losses import Batch, Loss, LossOutput, losses


@losses.register("gaussian")
class Gaussian(Loss):
    """Cross entropy on ``x + sigma * eps`` with one fresh ``eps ~ N(0, I)`` per image and step.

    With several members it is the mean of their losses under the same noise; the trainer hands
    them over one at a time, so that each has its own.
    """

    def __call__(self, members: Sequence[nn.Module], batch: Batch) -> LossOutput:
        """Mean over members and images of ``-log softmax(f(x + sigma eps))_y``."""
        noisy = batch.x + self.sigma * batch.noise(0)
        # Softmax in float32: bfloat16 keeps 8 bits, too few for a log of small probabilities.
        logits = torch.stack([member(noisy).float() for member in members])
        targets = batch.y.expand(len(members), -1).flatten()
        return LossOutput(cross_entropy(logits.flatten(0, 1), targets), logits.detach())
