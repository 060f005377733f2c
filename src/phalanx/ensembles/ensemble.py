"""`Ensemble`: members are a tensor axis, a reducer turns their logits into a decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, cast, runtime_checkable

import torch
from torch import Tensor, nn

from phalanx.ensembles.finite import finite_rows
from phalanx.errors import ModelError, ParameterError
from phalanx.models.digest import model_identity
from phalanx.models.model import InputSpec, Model
from phalanx.registry import Registry

Reducer = Callable[[Tensor], Tensor]
"""Member logits ``(M, B, C)`` to scores ``(B, C)``; the decision is the first largest score."""

ReducerFactory = Callable[..., Reducer]
"""``factory(**options) -> Reducer``; only ``weighted`` takes an option, ``weights``.

A reducer whose options can be said in one word, ``weighted:1,2,1``, is `Spelled`.
"""

reducers: Registry[ReducerFactory] = Registry(
    "reducers",
    "phalanx.ensembles.reducers",
    noun="reducer",
    aliases={"soft": "softmax", "we": "weighted", "mme": "max-margin"},
)

INVALID_VOTE = -1


@runtime_checkable
class Spelled(Protocol):
    """What a reducer adds to be chosen together with its options by one word."""

    @property
    def spelling(self) -> str:
        """Its options as `read` reads them; empty where they are the default."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """The same options as JSON values, for the classifier's identity."""
        ...

    @classmethod
    def read(cls, text: str) -> Self:
        """The reducer of a spelling; ParameterError where it is none."""
        ...


class Choice(NamedTuple):
    """A reducer that was asked for.

    Attributes:
        label: how tables name it: ``mean``, ``weighted:1,2,1``.
        name: of the registered reducer.
        options: JSON values, the same for every way of saying them.
    """

    label: str
    name: str
    options: dict[str, Any]


def choose_reducer(text: str, options: Mapping[str, Any] | None = None) -> Choice:
    """The reducer that ``name``, ``name:spelling``, or a name and options ask for.

    Raises:
        ParameterError: no such reducer, options it does not take, or options said twice.

    >>> choose_reducer("we:1, 2.0")
    Choice(label='weighted:1,2', name='weighted', options={'weights': [1.0, 2.0]})
    >>> choose_reducer("weighted", {"weights": torch.tensor([1, 2])}) == choose_reducer("we:1,2")
    True
    """
    if not isinstance(text, str):
        raise ParameterError(f"the reducer is {text!r}", why="it is a name", repair="'mean'")
    name, colon, spelling = text.partition(":")
    name = reducers.aliases.get(name, name)
    if colon and options:
        raise ParameterError(
            f"the options of reducer {text!r} are given twice", repair=f"{name!r} and its options"
        )
    reducer = _spelled(name, spelling) if colon else make_reducer(name, options or {})
    if not isinstance(reducer, Spelled):
        return Choice(name, name, dict(options or {}))
    label = f"{name}:{reducer.spelling}" if reducer.spelling else name
    return Choice(label, name, reducer.options)


def _spelled(name: str, spelling: str) -> object:
    factory: object = reducers.get(name)
    if not isinstance(factory, Spelled):
        raise ParameterError(
            f"reducer {name!r} takes no options, and {spelling!r} was given", repair=name
        )
    return factory.read(spelling)


def decide(reducer: Reducer, logits: Tensor) -> Tensor:
    """Class votes int64 ``(B,)`` for member logits ``(M, B, C)``.

    Ties go to the lowest class index, so the base classifier is a function. A row in which
    any member's logits, or the reduced scores, are not finite votes `INVALID_VOTE`: no
    reducer may hide a broken member (a NaN must never become a class).
    """
    scores = reducer(logits.float())
    finite = finite_rows(logits) & torch.isfinite(scores).all(-1)
    return torch.where(finite, scores.argmax(-1), INVALID_VOTE)


def make_reducer(name: str, options: Mapping[str, Any]) -> Reducer:
    """The reducer called ``name`` (or an alias) with its options.

    Raises:
        ParameterError: no such reducer, or an option it does not take.
    """
    factory = reducers.get(name)
    try:
        return factory(**options)
    except TypeError as error:
        raise ParameterError(
            f"reducer {name!r} does not take the options {dict(options)}: {error}"
        ) from error


class Ensemble(nn.Module):
    """Several models that see the same input.

    Args:
        members: models that agree on input range, shape and classes (architectures may differ).
        reducer: name or alias of a registered reducer, or ``name:spelling`` (`choose_reducer`).
        options: the reducer's options.

    Raises:
        ModelError: no members, or members that disagree.
        ParameterError: no such reducer, or options it does not take.
    """

    def __init__(self, members: Sequence[Model], reducer: str = "mean", **options: Any) -> None:
        super().__init__()
        _check_members(members)
        self.members = nn.ModuleList(members)
        self.training = any(member.training for member in members)
        self.members.training = self.training
        _, self.reducer_name, self.reducer_options = choose_reducer(reducer, options)
        self.reducer = make_reducer(self.reducer_name, self.reducer_options)
        # Options that do not suit this many members are refused now, not in the middle of a run.
        self.reducer(torch.zeros(len(members), 1, self.classes))

    @classmethod
    def from_models(
        cls, models: Sequence[Model | Ensemble], reducer: str = "mean", **options: Any
    ) -> Ensemble:
        """An ensemble of models and of the members of other ensembles, in order."""
        members: list[Model] = []
        for model in models:
            members += model.models if isinstance(model, Ensemble) else [model]
        return cls(members, reducer, **options)

    @property
    def models(self) -> tuple[Model, ...]:
        """The members, in the order of the member axis."""
        return tuple(cast(Model, member) for member in self.members)

    @property
    def classes(self) -> int:
        """Number of classes of every member."""
        return self.models[0].classes

    @property
    def inputs(self) -> InputSpec:
        """Range and shape that the members share (each normalises for itself)."""
        return self.models[0].inputs

    def identity(self) -> dict[str, Any]:
        """JSON values: the members in order, the reducer and its options."""
        return {
            "members": [model_identity(member) for member in self.models],
            "reducer": self.reducer_name,
            "options": dict(self.reducer_options),
        }

    def member_logits(self, x: Tensor) -> Tensor:
        """Logits ``(M, B, C)`` of inputs ``(B, *shape)``."""
        return torch.stack([member(x) for member in self.members])

    def forward(self, x: Tensor) -> Tensor:
        """Reduced scores ``(B, C)``."""
        return self.reducer(self.member_logits(x))


def _check_members(members: Sequence[Model]) -> None:
    if not members:
        raise ModelError("an ensemble without members", repair="name at least one model")
    first = _agreement(members[0])
    for index, member in enumerate(members[1:], 1):
        for (what, expected), given in zip(first.items(), _agreement(member).values(), strict=True):
            if given != expected and None not in (given, expected):
                raise ModelError(
                    f"member {index} ({member.card.name}) has {what} {given}",
                    why=f"member 0 ({members[0].card.name}) has {expected}; members see one input",
                )


def _agreement(member: Model) -> dict[str, object]:
    inputs = member.inputs
    return {"classes": member.classes, "input range": inputs.range, "input shape": inputs.shape}
