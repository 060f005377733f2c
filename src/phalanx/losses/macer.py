"""MACER: maximising the certified radius (Zhai et al., ICLR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.special import ndtri

from phalanx.losses import Batch, losses
from phalanx.losses._member import Count, MemberLoss, Score, Shown, Weight, by_draw, under
from phalanx.losses._smoothed import log_mean_softmax

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@losses.register("macer")
class Macer(MemberLoss):
    """The smoothed member shall be right, and where it is, by a large radius.

    With ``p = mean_i softmax(f(x + sigma eps_i))`` and ``q`` the same at inverse temperature
    ``beta``: ``-log p_y + lbd * sigma / 2 * (gamma - gap)``, mean over the batch, where ``gap =
    Phi^-1(q_1) - Phi^-1(q_2)`` is that of the two largest and the second term counts only for
    images on which ``q`` is right and ``gap <= gamma``. The Gaussian quantile is part of the
    loss (it is Cohen's radius), whatever the noise.

    Draws: noises 0 .. ``num_noise`` - 1, all of a whole batch in one pass of
    ``num_noise * B`` rows.

    Attributes:
        num_noise: draws an image; published: 16.
        lbd: weight of the radius; published on MNIST: 16 (6 at sigma 1); on CIFAR-10: 12.
        gamma: gap from which an image is far enough; published: 8.
        beta: inverse temperature; published: 16.
        defer_epochs: the radius counts from this epoch on; published on MNIST: 31 of 90.
    """

    num_noise: Count = 16
    lbd: Weight = 16.0
    gamma: Positive = 8.0
    beta: Positive = 16.0
    defer_epochs: Weight = 0.0

    def inputs(self, member: nn.Module, batch: Batch) -> Shown:
        """The images under every draw, in one forward pass."""
        return Shown((under(batch.x, self.noises(batch, self.num_noise)),))

    def score(self, logits: Sequence[Tensor], shown: Shown, batch: Batch) -> Score:
        """Both terms; the metric is the share of images whose radius is pushed."""
        drawn = by_draw(logits[0], batch)
        loss = -log_mean_softmax(drawn).gather(1, batch.y[:, None]).mean()
        lacking = lacking_gap((self.beta * drawn).softmax(-1).mean(0), batch.y, self.gamma)
        if batch.progress >= self.defer_epochs:
            loss = loss + self.lbd * self.sigma / 2 * lacking.sum() / len(batch.y)
        pushed = loss.new_tensor(len(lacking) / len(batch.y))
        return Score(loss, {"pushed": pushed})


def lacking_gap(q: Tensor, y: Tensor, gamma: float) -> Tensor:
    """``gamma - (Phi^-1(q_1) - Phi^-1(q_2))`` of the images that are right and lack something.

    Args:
        q: probabilities ``(B, C)``.
        y: classes ``(B,)``.
        gamma: the gap to reach.

    Returns:
        ``(n,)`` with n <= B. Images whose gap is infinite (``q_1`` rounds to 1 or ``q_2`` to 0)
        lack nothing; they are left out before the quantile is differentiated, because zero
        times its infinite slope is not a number.

    >>> import torch
    >>> q = torch.tensor([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    >>> lacking_gap(q, torch.tensor([0, 0, 0]), 8.0)
    tensor([8.0000, 5.4369])
    """
    # A gap is at least 2 Phi^-1(q_1), so up to 8 float32 holds q_1 (at most 0.99997) well.
    top = q.topk(2)
    gap = ndtri(top.values.detach()).diff(dim=-1).neg().squeeze(-1)
    chosen = (top.indices[:, 0] == y) & (gap <= gamma)
    first, second = ndtri(top.values[chosen]).unbind(-1)
    return gamma - (first - second)
