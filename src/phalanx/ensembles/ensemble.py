"""`Ensemble`: members are a tensor axis, a reducer turns their logits into a decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from phalanx.errors import ModelError
from phalanx.models.model import Model
from phalanx.registry import Registry

Reducer = Callable[[Tensor], Tensor]
"""Member logits ``(M, B, C)`` to scores ``(B, C)``; the decision is the first largest score."""

ReducerFactory = Callable[..., Reducer]
"""``factory(**options) -> Reducer``; only ``weighted`` takes an option, ``weights``."""

reducers: Registry[ReducerFactory] = Registry(
    "reducers",
    "phalanx.ensembles.reducers",
    aliases={"soft": "softmax", "we": "weighted", "mme": "max-margin"},
)

INVALID_VOTE = -1


def decide(reducer: Reducer, logits: Tensor) -> Tensor:
    """Class votes int64 ``(B,)`` for member logits ``(M, B, C)``.

    Ties go to the lowest class index, so the base classifier is a function. A row in which
    any member's logits, or the reduced scores, are not finite votes `INVALID_VOTE`: no
    reducer may hide a broken member (a NaN must never become a class).
    """
    scores = reducer(logits.float())
    finite = torch.isfinite(logits).all(-1).all(0) & torch.isfinite(scores).all(-1)
    return torch.where(finite, scores.argmax(-1), INVALID_VOTE)


class Ensemble(nn.Module):
    """Several models that see the same input.

    Args:
        members: models that agree on input range, shape and classes (architectures may differ).
        reducer: name or alias of a registered reducer.
        options: the reducer's options.
    """

    def __init__(self, members: Sequence[Model], reducer: str = "mean", **options: object) -> None:
        super().__init__()
        _check_members(members)
        self.members = nn.ModuleList(members)
        self.reducer_name, self.reducer_options = reducer, options
        self.reducer = reducers.get(reducer)(**options)

    @property
    def classes(self) -> int:
        return self.members[0].classes  # type: ignore[return-value]

    def member_logits(self, x: Tensor) -> Tensor:
        """Logits ``(M, B, C)`` of inputs ``(B, *shape)``."""
        return torch.stack([member(x) for member in self.members])

    def forward(self, x: Tensor) -> Tensor:
        """Reduced scores ``(B, C)``."""
        return self.reducer(self.member_logits(x))


def _check_members(members: Sequence[Model]) -> None:
    if not members:
        raise ModelError("an ensemble without members")
    first = members[0]
    for index, member in enumerate(members[1:], 1):
        if member.classes != first.classes or member.inputs.range != first.inputs.range:
            raise ModelError(
                f"member {index} ({member.card.name}) has {member.classes} classes and range"
                f" {member.inputs.range}",
                why=f"member 0 has {first.classes} and {first.inputs.range}",
            )
