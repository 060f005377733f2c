"""Losses over several members: the sum of a base loss, and a term that sees them together.

The base is any loss of one member by name, so that no regulariser is written twice:

    loss: {name: drt, sigma: 0.5, base: {name: smoothadv, num_noise: 2}}

Members share the images and the noises (an adversary of the base attacks each member alone,
under those noises). Weights of a regulariser stand against the *sum* of the members' losses,
so that with weight 0 every member trains as it would alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from phalanx.errors import ConfigurationError, ParameterError
from phalanx.losses import Batch, Loss, LossOutput, build_loss
from phalanx.losses._member import (
    MemberLoss,
    Score,
    forward,
    mean_metrics,
    repeated_labels,
)


@dataclass(frozen=True)
class Seen:
    """One member at the inputs of the base's first pass: ``R = k * B`` rows.

    Attributes:
        member: it.
        x: inputs ``(R, *shape)``, a leaf that gradients can be asked for.
        logits: ``(R, C)``, float32, with a graph.
        y: classes ``(R,)``.
        score: of the base.
    """

    member: nn.Module
    x: Tensor
    logits: Tensor
    y: Tensor
    score: Score


class CoupledLoss(Loss):
    """Base of the losses that look at all members at once.

    Attributes:
        base: the loss of one member below, ``name`` and options; ``sigma`` is the outer one.
    """

    coupled: ClassVar[bool] = True
    base: dict[str, Any] = Field(default_factory=lambda: {"name": "gaussian"})
    _base: MemberLoss = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Build the base, so that an option it does not take is refused with the rest."""
        options = {key: value for key, value in self.base.items() if key != "name"}
        if "sigma" in options:
            raise ConfigurationError(
                "loss.base.sigma is set", why="members see one noise", repair="set loss.sigma"
            )
        name = self.base.get("name", "gaussian")
        base = build_loss(str(name), {"sigma": self.sigma, **options}, "loss.base")
        if not isinstance(base, MemberLoss):
            raise ConfigurationError(
                f"loss.base is {name!r}, which is not a loss of one member",
                repair="a base such as gaussian, consistency or smoothadv",
            )
        self._base = base

    @property
    def recordable(self) -> bool:
        """See `Loss.recordable`; the base decides too."""
        return self.replayable and self._base.recordable

    def alone(self) -> dict[str, Any]:
        """The base."""
        return {"name": "gaussian", **self.base, "sigma": self.sigma}

    @property
    def base_share(self) -> float:
        """Weight of the sum of the base losses."""
        return 1.0

    @abstractmethod
    def regulariser(self, seen: Sequence[Seen], batch: Batch) -> Score:
        """What is added to the sum of the members' base losses, already weighted."""

    def __call__(self, members: Sequence[nn.Module], batch: Batch) -> LossOutput:
        """Sum over members of the base's loss, and the regulariser.

        Raises:
            ParameterError: there are fewer than two members.
        """
        if len(members) < 2:
            raise ParameterError(
                "a loss that couples members was given one", repair="--set members=3"
            )
        seen = [self._look(member, batch) for member in members]
        added = self.regulariser(seen, batch)
        losses = torch.stack([each.score.loss for each in seen])
        loss = self.base_share * losses.sum() + added.loss
        noisy = torch.stack([each.logits[: len(batch.x)].detach() for each in seen])
        own = {name: value.detach() for name, value in added.metrics.items()}
        return LossOutput(loss, noisy, {**mean_metrics([each.score for each in seen]), **own})

    def _look(self, member: nn.Module, batch: Batch) -> Seen:
        shown = self._base.inputs(member, batch)
        x = shown.passes[0].detach().requires_grad_()
        first = forward(member, x)
        logits = [first, *(forward(member, other) for other in shown.passes[1:])]
        score = self._base.score(logits, shown, batch)
        return Seen(member, x, first, repeated_labels(first, batch), score)


def input_gradients(values: Sequence[Tensor], seen: Sequence[Seen]) -> Tensor:
    """Gradient of every member's values at its own inputs, in one backward pass.

    Args:
        values: ``(R,)`` for each member, with a graph. Each row counts alone (they are
            summed), so a gradient does not shrink with the number of rows.
        seen: the members.

    Returns:
        ``(M, R, D)``, with a graph: it can be differentiated by the parameters.
    """
    gradients = torch.autograd.grad(
        [value.sum() for value in values], [each.x for each in seen], create_graph=True
    )
    return torch.stack([gradient.flatten(1) for gradient in gradients])


def pairs(values: Tensor) -> tuple[Tensor, Tensor]:
    """Both sides of all pairs ``i < j`` of members: ``(M, ...)`` to twice ``(pairs, ...)``.

    Without an index: one that is made of Python numbers goes to a GPU by a copy, and a step
    that copies cannot be recorded.

    >>> pairs(torch.tensor([0, 1, 2]))
    (tensor([0, 0, 1]), tensor([1, 2, 2]))
    """
    every = list(combinations(values, 2))
    return torch.stack([one for one, _ in every]), torch.stack([other for _, other in every])


def cosines(gradients: Tensor) -> Tensor:
    """Cosine between the gradients of every pair of members: ``(M, R, D)`` to ``(pairs, R)``.

    A gradient of zero has cosine 0 with everything.
    """
    return torch.cosine_similarity(*pairs(gradients), dim=-1)
