"""Base classifiers: which members, in which order, under which reducer.

A run may ask about many of them at once. They share one forward pass of the members, since
noise keys omit the classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from phalanx.ensembles.ensemble import Ensemble, Reducer, decide, reducers
from phalanx.models.digest import model_identity
from phalanx.models.model import Model
from phalanx.runs.provenance import digest_of
from phalanx.runs.schema import ClassifierRecord


@dataclass(frozen=True)
class BaseClassifier:
    """A function from an input to a class, read off the member logits.

    Attributes:
        name: unique in its run.
        members: indices on the member axis, in order.
        reducer: None for a single member.
    """

    name: str
    members: tuple[int, ...]
    reducer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def voter(self) -> Reducer:
        """The reducer itself; a single member is its own mean."""
        return reducers.get(self.reducer or "mean")(**self.options)

    def votes(self, logits: Tensor, voter: Reducer) -> Tensor:
        """Classes int64 ``(B,)`` from member logits ``(M, B, C)``; -1 where not finite."""
        if len(self.members) != len(logits):
            logits = logits[list(self.members)]
        return decide(voter, logits)

    def record(
        self, models: Sequence[Model], arithmetic: Mapping[str, Any], *, primary: bool
    ) -> ClassifierRecord:
        """Name, identity and digest for the run's manifest."""
        identity = {
            "members": [model_identity(models[index]) for index in self.members],
            "reducer": self.reducer,
            "options": dict(self.options),
            **arithmetic,
        }
        return ClassifierRecord(self.name, identity, digest_of(identity), primary)


def classifiers_of(
    model: Model | Ensemble, *, each: bool = False, others: Sequence[str] = ()
) -> list[BaseClassifier]:
    """The classifiers to certify; the first is the primary one.

    Args:
        model: a model, or an ensemble under its reducer.
        each: also every member alone.
        others: also the same members under these reducers.
    """
    if isinstance(model, Model):
        return [BaseClassifier("model", (0,))]
    everybody = tuple(range(len(model.members)))
    found = [
        BaseClassifier(model.reducer_name, everybody, model.reducer_name, model.reducer_options)
    ]
    for alias in others:
        name = reducers.aliases.get(alias, alias)
        if name not in {classifier.name for classifier in found}:
            found.append(BaseClassifier(name, everybody, name))
    if each:
        found += [BaseClassifier(f"member-{index}", (index,)) for index in everybody]
    return found
