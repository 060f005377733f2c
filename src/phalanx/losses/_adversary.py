"""The adversary of SmoothAdv (Salman et al., NeurIPS 2019): moves images against a member."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from phalanx.attacks.smoothed import (
    TINY,
    Smoothed,
    ascended,
    decoupled,
    norms,
    shortened,
    spread,
    unit,
)
from phalanx.losses import Batch
from phalanx.losses._member import Count, Weight, warmed_up

__all__ = ["TINY", "Adversary", "norms", "shortened", "spread", "unit"]


class Adversary(BaseModel):
    """Where the smoothed member's loss is largest near an image, in the Euclidean norm.

    Attributes:
        attack: ``pgd``: steps of ``2 eps / num_steps`` along the gradient, back into the ball
            of radius ``eps``. ``ddn`` (Rony et al. 2019): the norm grows by ``gamma`` while
            the member is right and shrinks while it is wrong; the smallest image that misleads
            it is kept, then pulled into the ball; where none does, the image is left alone.
        eps: radius in input units; published on MNIST 1 (255/256), on CIFAR-10 up to 2.
        num_steps: gradient steps; published: 10 (2 for the cheap models).
        warmup_epochs: epochs over which ``eps`` rises to its value, a step each epoch;
            published: 10. 0: at once.
        gamma: of ``ddn``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attack: Literal["pgd", "ddn"] = "pgd"
    eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    num_steps: Count = 10
    warmup_epochs: Weight = 10.0
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.05

    def move(self, member: nn.Module, batch: Batch, noises: Sequence[Tensor]) -> Tensor:
        """The images where ``member`` under ``noises`` does worst: like ``batch.x``, no graph.

        They stay inside `Batch.value_range`. The noises are those of the training step that
        follows, as published.
        """
        eps = self.eps * warmed_up(batch, self.warmup_epochs)
        smoothed = Smoothed(member, batch.y, noises)
        box = batch.value_range
        if self.attack == "ddn":
            return decoupled(smoothed, batch.x, eps, self.num_steps, box=box, gamma=self.gamma)
        return ascended(smoothed, batch.x, eps, self.num_steps, box)
