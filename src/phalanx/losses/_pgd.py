"""Projected gradient ascent inside a ball: what adversarial training shows a member.

`phalanx.losses._adversary` moves images against a smoothed member as SmoothAdv did; this is the
attack of Madry et al. (ICLR 2018), in the maximum norm or the Euclidean one, on whatever loss
it is handed. Members are looked at in evaluation mode and nothing of them changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from phalanx.losses import Batch
from phalanx.losses._adversary import shortened, spread, unit
from phalanx.losses._member import Count, forward
from phalanx.losses._smoothed import evaluating, log_mean_softmax

Rise = Callable[[Tensor], Tensor]
"""Images ``(B, *shape)`` to the gradient of what shall grow, every image's own at itself."""


class Ascent(BaseModel):
    """Steps along a gradient, back into the ball and the range of clean inputs after each.

    Attributes:
        norm: ``linf``: steps along the sign; ``l2``: along the direction.
        eps: radius in input units.
        steps: gradient steps.
        step_size: length of one in input units; None: 2.5 eps / steps, as Madry et al. advise.
        random_start: begin anywhere in the ball (drawn from torch's generator) instead of at
            the image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    norm: Literal["linf", "l2"] = "linf"
    eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 8 / 255
    steps: Count = 10
    step_size: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    random_start: bool = True

    def grown(self, share: float) -> Ascent:
        """The ball and its steps at a share of their size."""
        if share == 1:
            return self
        step = None if self.step_size is None else share * self.step_size
        return self.model_copy(update={"eps": share * self.eps, "step_size": step})

    def move(self, x: Tensor, value_range: tuple[float, float], rise: Rise) -> Tensor:
        """``x`` moved to where more is lost: like ``x``, inside the ball and the range, no graph.

        The last point is taken, as published, not the best one on the way.
        """
        length = self.step_size or 2.5 * self.eps / self.steps
        moved = self._inside(x + self._start(x), x, value_range)
        for _ in range(self.steps):
            gradient = rise(moved)
            direction = gradient.sign() if self.norm == "linf" else unit(gradient)
            moved = self._inside(moved + length * direction, x, value_range)
        return moved

    def _start(self, x: Tensor) -> Tensor:
        """Uniform in the ball, or zero."""
        if not self.random_start:
            return torch.zeros_like(x)
        if self.norm == "linf":
            return (2 * torch.rand_like(x) - 1) * self.eps
        share = torch.rand(len(x), device=x.device) ** (1 / x[0].numel())
        return self.eps * spread(share, x) * unit(torch.randn_like(x))

    def _inside(self, moved: Tensor, x: Tensor, value_range: tuple[float, float]) -> Tensor:
        """The range first: it is convex and holds ``x``, so shortening does not leave it again."""
        move = moved.clamp(*value_range) - x
        if self.norm == "linf":
            return x + move.clamp(-self.eps, self.eps)
        return x + shortened(move, self.eps)


def ascended(
    members: Sequence[nn.Module], batch: Batch, noise: Tensor, attack: Ascent, rows: slice
) -> Tensor:
    """The images ``rows`` moved against the members' mean prediction under ``noise``.

    What grows is ``-log mean_i softmax(f_i(x + noise))_y``; of one member, its cross entropy.

    Args:
        members: one or several.
        batch: the step's.
        noise: of the whole batch, in input units; zeros where the members see none.
        attack: the ball and the steps.
        rows: which images.
    """
    y = batch.y[rows]

    def cost(x: Tensor) -> Tensor:
        logits = torch.stack([forward(member, x + noise[rows]) for member in members])
        return -log_mean_softmax(logits).gather(1, y[:, None])

    return attack.move(batch.x[rows], batch.value_range, lambda x: slope(members, cost, x))


def slope(members: Sequence[nn.Module], cost: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of the summed ``cost`` at ``x``, the members in evaluation mode."""
    with ExitStack() as stack, torch.enable_grad():
        for member in members:
            stack.enter_context(evaluating(member))
        at = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cost(at).sum(), at)
    return gradient
