"""Among which classes a decision is taken, and which of them count as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from phalanx.ensembles.ensemble import INVALID_VOTE, Reducer, decide
from phalanx.ensembles.finite import finite_rows
from phalanx.errors import ParameterError


@dataclass(frozen=True)
class Choices:
    """Part of a base classifier: it decides among these classes, up to these groups.

    Attributes:
        labels: the classes whose logits are looked at, in rising order; empty: all of them. Every
            member's logits are restricted before anything else, so a reducer sees no others.
        groups: disjoint sets of at least two classes. A vote for any class of a group is a vote
            for the group, which goes by its lowest class; a class in no group stays alone.

    Raises:
        ParameterError: what is no such list.

    >>> Choices((5, 0, 1), ((5, 1),)).of(5)
    1
    """

    labels: tuple[int, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _classes("labels", self.labels))
        groups = [_classes("a group", group, fewest=2) for group in _list("groups", self.groups)]
        object.__setattr__(self, "groups", tuple(sorted(groups)))
        merged = list(chain(*groups))
        if len(set(merged)) < len(merged):
            raise ParameterError(f"the groups are {groups}", why="a class is in at most one")
        if self.labels and not set(merged) <= set(self.labels):
            raise ParameterError(
                f"the groups are {groups} and the labels {list(self.labels)}",
                why="a class that is left out is in no group",
                repair="groups of these labels",
            )

    def check(self, classes: int, top: int = 1) -> None:
        """Refuse what does not suit a number of classes, or leaves nothing to decide.

        Args:
            top: how many of the alternatives a certificate speaks of.

        Raises:
            ParameterError: a class that the models do not have, or no alternative to ``top``.
        """
        named = [*self.labels, *chain(*self.groups)]
        if max(named, default=0) >= classes:
            raise ParameterError(
                f"labels or groups name the class {max(named)}",
                why=f"the models have {classes} classes, 0..{classes - 1}",
            )
        if top >= (found := self.count(classes)):
            raise ParameterError(
                f"top is {top}, and the number of alternatives {found}",
                why="a class is always among all there are, which says nothing",
                repair="a smaller top, more labels, or smaller groups",
            )

    def count(self, classes: int) -> int:
        """How many alternatives there are.

        >>> Choices((), ((0, 1, 8, 9), (2, 3, 4, 5, 6, 7))).count(10)
        2
        """
        return len(set(self.names(classes)))

    def of(self, label: int) -> int:
        """What a class counts as: the lowest of its group, else itself."""
        return next((group[0] for group in self.groups if label in group), label)

    def names(self, classes: int) -> list[int]:
        """What each class that is looked at counts as, in order."""
        return [self.of(label) for label in self.labels or range(classes)]

    def restricted(self, logits: Tensor) -> Tensor:
        """Logits ``(..., labels)`` out of ``(..., C)``."""
        return logits[..., list(self.labels)] if self.labels else logits

    def named(self, votes: Tensor, classes: int) -> Tensor:
        """Votes for places among the restricted logits as votes for classes; int64."""
        if not (self.labels or self.groups):
            return votes
        table = torch.tensor([INVALID_VOTE, *self.names(classes)], device=votes.device)
        return table[votes - INVALID_VOTE]

    def decide(self, reducer: Reducer, logits: Tensor) -> Tensor:
        """As `phalanx.ensembles.ensemble.decide`, among these choices.

        A logit that is not finite breaks the vote, also one that is not looked at.

        >>> logits = torch.tensor([[[9.0, 1.0, 2.0, 0.0]]])
        >>> mean = lambda z: z.mean(0)
        >>> Choices((1, 2, 3)).decide(mean, logits), Choices((), ((0, 3),)).decide(mean, logits)
        (tensor([2]), tensor([0]))
        """
        votes = self.named(decide(reducer, self.restricted(logits)), logits.shape[-1])
        if not self.labels:
            return votes
        return torch.where(finite_rows(logits), votes, INVALID_VOTE)

    def identity(self) -> dict[str, Any]:
        """JSON values for a classifier's identity; none where it decides among all classes."""
        said = {"labels": list(self.labels), "groups": [list(group) for group in self.groups]}
        return {name: value for name, value in said.items() if value}


def _list(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise ParameterError(f"{name} is {value!r}", why="it is a list")
    return value


def _classes(name: str, value: Iterable[Any], fewest: int = 0) -> tuple[int, ...]:
    found = _list(name, value)
    whole = all(type(label) is int and label >= 0 for label in found)
    if not whole or len(set(found)) < len(found) or (len(found) or 2) < 2 or len(found) < fewest:
        raise ParameterError(
            f"{name} is {list(found)!r}",
            why="it lists at least two different classes, as whole numbers from 0",
        )
    return tuple(sorted(found))


EVERY = Choices()
"""All classes, each on its own."""
