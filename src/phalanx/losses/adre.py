"""ADRE: adaptive radius enhancing (Feng et al., AAAI 2020, arXiv 2002.07246)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from phalanx.losses import Batch, losses
from phalanx.losses._adversary import Adversary
from phalanx.losses._member import (
    Count,
    MemberLoss,
    Score,
    Shown,
    Weight,
    by_draw,
    repeated_labels,
    under,
)
from phalanx.losses._smoothed import log_mean_softmax


@losses.register("adre")
class Adre(MemberLoss):
    """Cross entropy, and little left for the smoothed member's strongest wrong class.

    ``mean_i -log F_i(y) + lbd * max_{c != y} log Fbar(c)`` with ``F_i = softmax(f(x + sigma
    eps_i))`` and their mean ``Fbar``, mean over the batch. The second term has no lower end:
    weight decay is what keeps logits from growing. The form and the defaults are those of a
    public re-implementation (ratedali/benchmark-ctrs); we had no copy of the paper to check
    them against.

    Draws: noises 0 .. ``num_noise`` - 1.

    Attributes:
        num_noise: draws an image; 8 in the re-implementation.
        lbd: weight of the second term; 0.1 in the re-implementation.
        adversary: moves the images first, which the authors call ADREADV
            (`phalanx.losses._adversary.Adversary`). None: nothing moves.
    """

    replayable: ClassVar[bool] = True
    num_noise: Count = 8
    lbd: Weight = 0.1
    adversary: Adversary | None = None

    def inputs(self, member: nn.Module, batch: Batch) -> Shown:
        """The images under every draw, in one forward pass."""
        noises = self.noises(batch, self.num_noise)
        x = self.adversary.move(member, batch, noises) if self.adversary else batch.x
        return Shown((under(x, noises),))

    def score(self, logits: Sequence[Tensor], shown: Shown, batch: Batch) -> Score:
        """Both terms; the metric shows the second one unweighted."""
        log_mean = log_mean_softmax(by_draw(logits[0], batch))
        right = torch.zeros_like(log_mean).scatter(1, batch.y[:, None], -math.inf)
        runner_up = (log_mean + right).max(-1).values.mean()
        loss = cross_entropy(logits[0], repeated_labels(logits[0], batch))
        return Score(loss + self.lbd * runner_up, {"log_runner_up": runner_up})
