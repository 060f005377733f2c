"""RED: random ensemble defence (ICLR 2025 submission 924)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from phalanx.losses import Batch, LossOutput, losses
from phalanx.losses._coupled import CoupledLoss, Seen, cosines, input_gradients
from phalanx.losses._member import Score, Weight
from phalanx.losses._pgd import Ascent, ascended
from phalanx.losses.trs import row_losses


@losses.register("red")
class Red(CoupledLoss):
    """Members that one attack shall not deceive together, of which one answers at random.

    ``similarity * mean |cos(g_i, g_j)| + lipschitz * (1/N) sum_i 2 mean_x ||g_i||^2`` with ``g_i =
    grad CE_i(x)``, means over pairs and rows, is added to the sum of the base losses, at the
    base's own inputs. These are TRS's two terms (Yang et al. 2021); what differs is the data
    they are taken at, and that a member is drawn for every answer.

    Differentiating the loss of a batch, as published, divides every gradient by the number R of
    rows and the second term by R^2, so that it means something else at every batch size:
    ``form`` ``paper-batch-mean`` does that, ``per-sample`` takes each row's own gradient. The
    published 10 in one is 10 R^2 in the other.

    ``examples`` ``half-adversarial`` moves the second half of the batch (the larger one of an
    odd batch) against the mean of the members' softmax before anything else is computed; the
    base sees these images too.

    Members share images and noises. Draws: those of the base, noise 0 among them under
    ``half-adversarial``; the start of the ascent from torch's generator, which the trainer
    seeds anew for every step.

    Attributes:
        base: the loss of one member below, ``name`` and options.
        similarity: weight of the cosines; published: 10.
        lipschitz: weight of the squared lengths; published: 10.
        form: ``per-sample`` or ``paper-batch-mean``.
        examples: ``clean`` or ``half-adversarial``.
        attack: of the second half; published: l_inf 0.03 in 10 steps.
        defer_epochs: whole epochs before both terms count. Cosines weigh as much for a member that
            has learned nothing yet, and the shortest way to small ones is to learn nothing:
            members that start slowly, as generated ones do, may never begin otherwise.
            Published: 0.
    """

    replayable: ClassVar[bool] = True
    similarity: Weight = 10.0
    lipschitz: Weight = 10.0
    form: Literal["per-sample", "paper-batch-mean"] = "per-sample"
    examples: Literal["clean", "half-adversarial"] = "clean"
    attack: Ascent = Ascent(eps=0.03)
    defer_epochs: Weight = 0.0

    def __call__(self, members: Sequence[nn.Module], batch: Batch) -> LossOutput:
        """As every coupled loss, after half of the images were moved where that was asked for."""
        if self.examples == "half-adversarial":
            batch = replace(batch, x=self.half_moved(members, batch))
        return super().__call__(members, batch)

    def half_moved(self, members: Sequence[nn.Module], batch: Batch) -> Tensor:
        """The images, the second half of them moved: like ``batch.x``, no graph."""
        first = len(batch.x) // 2
        (noise,) = self._base.noises(batch, 1)
        moved = ascended(members, batch, noise, self.attack, slice(first, None))
        return torch.cat([batch.x[:first], moved])

    def regulariser(self, seen: Sequence[Seen], batch: Batch) -> Score:
        """Both terms; the metrics show them unweighted."""
        gradients = input_gradients(row_losses(seen), seen)
        alignment = cosines(gradients).abs().mean()
        length = 2 * gradients.square().sum(-1).mean()
        if self.form == "paper-batch-mean":
            length = length / gradients.shape[1] ** 2
        begun = int(batch.progress) >= self.defer_epochs
        loss = begun * (self.similarity * alignment + self.lipschitz * length)
        return Score(loss, {"gradient_cosine": alignment, "gradient_length": length})
