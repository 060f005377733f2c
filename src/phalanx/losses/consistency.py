"""Consistency regularisation (Jeong & Shin, NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from phalanx.losses import Batch, losses
from phalanx.losses._adversary import Adversary
from phalanx.losses._member import (
    MemberLoss,
    Score,
    Shown,
    Weight,
    by_draw,
    repeated_labels,
    under,
)
from phalanx.losses._smoothed import log_mean_softmax


@losses.register("consistency")
class Consistency(MemberLoss):
    """Predictions under several noises shall agree, and agree on something.

    With ``F_i = softmax(f(x + sigma eps_i))`` and their mean ``Fbar`` over ``num_noise`` draws:
    ``mean_i -log F_i(y) + lbd * mean_i KL(Fbar || F_i) + eta * H(Fbar)``, mean over the batch
    (gradients flow through ``Fbar`` too, as in the published code). Where ``lbd = eta`` the
    last two terms are ``lbd`` times the mean cross entropy between ``Fbar`` and ``F_i``.

    Draws: noises 0 .. ``num_noise`` - 1. The published code splits each batch of 256 images
    into ``num_noise`` parts and takes a step on each; the same is a recipe with
    ``batch = 256 / num_noise``.

    Attributes:
        num_noise: draws an image, at least 2 (with one there is nothing to agree with).
        lbd: weight of the divergence; published: on MNIST 10 at sigma 0.25, 5 at 0.5 and 1;
            on CIFAR-10 20 at 0.25, 10 at 0.5 and 1.
        eta: weight of the entropy; published: 0.5.
        adversary: moves the images first (`phalanx.losses._adversary.Adversary`): the
            published combination with SmoothAdv. None: nothing moves.
    """

    replayable: ClassVar[bool] = True
    num_noise: Annotated[int, Field(ge=2)] = 2
    lbd: Weight = 10.0
    eta: Weight = 0.5
    adversary: Adversary | None = None

    def inputs(self, member: nn.Module, batch: Batch) -> Shown:
        """The images under every draw, in one forward pass."""
        noises = self.noises(batch, self.num_noise)
        x = self.adversary.move(member, batch, noises) if self.adversary else batch.x
        return Shown((under(x, noises),))

    def score(self, logits: Sequence[Tensor], shown: Shown, batch: Batch) -> Score:
        """Cross entropy and both regularisers; the metrics show these unweighted."""
        divergence, entropy = (term.mean() for term in disagreement(by_draw(logits[0], batch)))
        loss = cross_entropy(logits[0], repeated_labels(logits[0], batch))
        loss = loss + self.lbd * divergence + self.eta * entropy
        return Score(loss, {"divergence": divergence, "entropy": entropy})


def disagreement(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Divergence of several predictions from their mean, and the entropy of the mean.

    Args:
        logits: ``(m, B, C)``.

    Returns:
        ``mean_i KL(Fbar || F_i)`` and ``H(Fbar)`` in nats, each ``(B,)``. Computed from log
        probabilities, so a probability of 0 costs no accuracy.

    >>> import torch
    >>> divergence, entropy = disagreement(torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]]]))
    >>> divergence.item(), round(entropy.item(), 4)
    (0.0, 0.6931)
    """
    log_mean = log_mean_softmax(logits)
    mean = log_mean.exp()
    entropy = -(mean * log_mean).sum(-1)
    return -(mean * log_softmax(logits, dim=-1).mean(0)).sum(-1) - entropy, entropy
