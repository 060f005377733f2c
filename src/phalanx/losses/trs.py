"""TRS: transferability reduced ensembles (Yang et al., NeurIPS 2021, arXiv 2104.00671)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from phalanx.losses import Batch, losses
from phalanx.losses._coupled import CoupledLoss, Seen, cosines, input_gradients
from phalanx.losses._member import Count, Score, Weight, forward
from phalanx.losses._smoothed import evaluating

Length = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@losses.register("trs")
class Trs(CoupledLoss):
    """Members' loss gradients shall be orthogonal and short.

    ``cosine * mean |cos(g_i, g_j)| + smoothness * mean_i 2 ||g_i||^2`` with ``g_i = grad CE_i(x)``,
    means over pairs or members and rows, is added to the sum of the base losses, at the base's
    own inputs (published: clean images, which is the base gaussian at sigma 0).

    The published code differentiates the batch's mean loss, which divides every gradient by
    the number R of rows and the second term by its square: ``reduction`` ``batch`` does that,
    and its strength depends on the batch; ``sample`` takes each row's own gradient. The
    published 10 in one is 10 R^2 in the other.

    With ``smooth_eps`` above 0 the second term is taken at inputs of which the second half is
    moved inside an l_inf ball to where the gradients are longest (published: 0.1 rising to 0.2
    on MNIST in the course of training, and members in training mode there; here it is
    constant, and the search looks at members in evaluation mode).

    Members share images and noises. Draws: those of the base; where the ball's search starts,
    from torch's generator, which the trainer seeds anew for every step.

    Attributes:
        base: the loss of one member below, ``name`` and options.
        cosine: weight; published: 10 (5 times 2).
        smoothness: weight; published: 10 (5 times 2), under ``reduction`` ``batch``.
        reduction: ``sample`` or ``batch``.
        smooth_eps: radius of the ball in input units; 0 moves nothing.
        smooth_steps: sign steps of a third of the radius; published: 6.
    """

    cosine: Weight = 10.0
    smoothness: Weight = 10.0
    reduction: Literal["sample", "batch"] = "sample"
    smooth_eps: Length = 0.0
    smooth_steps: Count = 6

    def regulariser(self, seen: Sequence[Seen], batch: Batch) -> Score:
        """Both terms; the metrics show them unweighted."""
        gradients = input_gradients(row_losses(seen), seen)
        alignment = cosines(gradients).abs().mean()
        if self.smooth_eps > 0:
            moved = self.roughest(seen)
            gradients = input_gradients(row_losses(moved), moved)
        rows = gradients.shape[1]
        length = 2 * gradients.square().sum(-1).mean()
        if self.reduction == "batch":
            length = length / rows**2
        loss = self.cosine * alignment + self.smoothness * length
        return Score(loss, {"gradient_cosine": alignment, "gradient_length": length})

    def roughest(self, seen: Sequence[Seen]) -> list[Seen]:
        """The members at their inputs, the second half of the rows moved."""
        start = [each.x.detach() for each in seen]
        moves = torch.ones_like(seen[0].y, dtype=torch.bool)
        moves[: len(moves) // 2] = False
        move = (2 * torch.rand_like(start[0]) - 1) * self.smooth_eps
        for _ in range(self.smooth_steps):
            rise = self._rise(seen, [x[moves] + move[moves] for x in start], moves)
            step = torch.zeros_like(move)
            step[moves] = self.smooth_eps / 3 * rise.sign()
            move = (move + step).clamp(-self.smooth_eps, self.smooth_eps)
        move[~moves] = 0
        return [_at(each, x + move) for each, x in zip(seen, start, strict=True)]

    def _rise(self, seen: Sequence[Seen], inputs: Sequence[Tensor], moves: Tensor) -> Tensor:
        """Gradient of the summed squared lengths by a move that all members' inputs share."""
        with ExitStack() as stack:
            for each in seen:
                stack.enter_context(evaluating(each.member))
            move = torch.zeros_like(inputs[0]).requires_grad_()
            there = [
                _at(each, x + move, each.y[moves]) for each, x in zip(seen, inputs, strict=True)
            ]
            lengths = input_gradients(row_losses(there), there).square().sum()
            (rise,) = torch.autograd.grad(lengths, move)
        return rise


def row_losses(seen: Sequence[Seen]) -> list[Tensor]:
    """Cross entropy of every row, ``(R,)`` for each member."""
    return [cross_entropy(each.logits, each.y, reduction="none") for each in seen]


def _at(each: Seen, x: Tensor, y: Tensor | None = None) -> Seen:
    """A member at other inputs."""
    x = x if x.requires_grad else x.requires_grad_()
    return Seen(each.member, x, forward(each.member, x), each.y if y is None else y, each.score)
