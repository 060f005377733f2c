"""Base classifiers: which members, in which order, under which reducer.

A run may ask about many of them at once. They share one forward pass of the members, since
noise keys omit the classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from phalanx.ensembles.ensemble import Reducer, choose_reducer, make_reducer
from phalanx.ensembles.finite import finite_rows
from phalanx.errors import ParameterError
from phalanx.runs.provenance import digest_of
from phalanx.runs.schema import ClassifierRecord
from phalanx.smoothing.choices import EVERY, Choices

RANDOM_MEMBER = "random-member"
AFTER_SMOOTHING = "after-smoothing"


@dataclass(frozen=True)
class BaseClassifier:
    """A function from an input to a class, read off the member logits.

    Attributes:
        name: unique in its run.
        members: indices on the member axis, in order.
        reducer: None for a single member.
        consensus: K of K-consensus, None where every member is always asked.
        choices: the classes it decides among.
    """

    name: str
    members: tuple[int, ...]
    reducer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    consensus: int | None = None
    choices: Choices = EVERY

    @property
    def after(self) -> bool:
        """Whether it has no votes of its own: its members are smoothed first."""
        return self.reducer == AFTER_SMOOTHING

    @property
    def random(self) -> bool:
        """Whether a member is drawn for every noisy row."""
        return self.reducer == RANDOM_MEMBER

    def voter(self) -> Reducer:
        """The reducer itself; a single member is its own mean."""
        return make_reducer(self.reducer or "mean", self.options)

    def votes(self, logits: Tensor, voter: Reducer) -> Tensor:
        """Classes int64 ``(B,)`` from member logits ``(M, B, C)``; -1 where not finite."""
        if self.members != tuple(range(len(logits))):
            logits = logits[list(self.members)]
        votes = self.choices.decide(voter, logits)
        if self.consensus is None:
            return votes
        agreed, agree = self.agreed(logits[: self.consensus])
        return torch.where(agree, agreed, votes)

    def agreed(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """`agreed_votes` of the first K members' logits, among the classifier's choices."""
        votes, agree = agreed_votes(self.choices.restricted(logits))
        return self.choices.named(votes, logits.shape[-1]), agree & finite_rows(logits)

    def record(
        self,
        identities: Sequence[Mapping[str, Any]],
        arithmetic: Mapping[str, Any],
        *,
        primary: bool,
    ) -> ClassifierRecord:
        """Name, identity and digest for the manifest; ``identities`` are those of all members."""
        identity = {
            "members": [identities[index] for index in self.members],
            "reducer": self.reducer,
            "options": dict(self.options),
            **arithmetic,
        }
        if self.consensus is not None:
            identity["consensus"] = self.consensus
        identity |= self.choices.identity()
        return ClassifierRecord(self.name, identity, digest_of(identity), primary)


def _random_member(
    members: tuple[int, ...], reducer_names: Sequence[str], *, alone: bool
) -> BaseClassifier:
    if len(members) < 2 or len(reducer_names) > 1 or not alone:
        raise ParameterError(
            f"{RANDOM_MEMBER} goes with several models, and with no other classifier",
            why="one member is asked about each noisy copy, and others would need all of them",
            repair=f"--reducer {RANDOM_MEMBER} alone",
        )
    return BaseClassifier(RANDOM_MEMBER, members, RANDOM_MEMBER)


def _after_smoothing(members: tuple[int, ...], consensus: int | None) -> BaseClassifier:
    if len(members) < 2 or consensus is not None:
        raise ParameterError(
            f"{AFTER_SMOOTHING} goes with several models, and with no consensus of them",
            why="every member is smoothed alone and asked about every noisy copy",
            repair=f"--reducer {AFTER_SMOOTHING}, with at least 2 models",
        )
    return BaseClassifier(AFTER_SMOOTHING, members, AFTER_SMOOTHING)


def agreed_votes(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The class of the first member, and whether all of them have it.

    Args:
        logits: of the first K members, ``(K, B, C)``.

    Returns:
        Classes int64 ``(B,)`` and bool ``(B,)``, false where any logit is not finite. A
        member's tie goes to the lowest class, as everywhere.

    >>> agreed_votes(torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 3.0]]]))
    (tensor([1, 0]), tensor([ True, False]))
    """
    votes = logits.argmax(-1)
    return votes[0], (votes == votes[0]).all(0) & finite_rows(logits)


def classifiers_of(
    members: int,
    *,
    reducer_names: Sequence[str] = ("mean",),
    options: Mapping[str, Any] | None = None,
    each: bool = False,
    consensus: int | None = None,
) -> list[BaseClassifier]:
    """The classifiers to certify in one pass; the first is the primary one.

    Args:
        members: how many models there are; a single one is certified as it is.
        reducer_names: the ensemble under each of these; a name, an alias, or ``name:spelling``
            such as ``weighted:1,2,1`` (`choose_reducer`). What is asked for twice is one.
            ``random-member``: none of these, but a member drawn for every noisy copy.
            ``after-smoothing``: each member is smoothed alone and certified too.
        options: options of the first reducer, for example ``weights``.
        each: also every member alone.
        consensus: K of K-consensus for each ensemble: the members behind the first K are asked
            only where these differ.

    Raises:
        ParameterError: no such reducer, options it does not take or that do not suit this many
            members, or nothing to certify.
    """
    if isinstance(reducer_names, str):
        raise ParameterError(
            f"the reducers are {reducer_names!r}",
            why="they are a sequence of names",
            repair=f"[{reducer_names!r}]",
        )
    if consensus is not None and (type(consensus) is not int or not 2 <= consensus < members):
        raise ParameterError(
            f"consensus is {consensus!r} and there are {members} members",
            why="fewer than two agree with nobody, and all of them spare nobody",
            repair="--consensus 2, with at least 3 models",
        )
    everybody = tuple(range(members))
    if RANDOM_MEMBER in reducer_names:
        return [_random_member(everybody, reducer_names, alone=not each and consensus is None)]
    chosen: dict[str, BaseClassifier] = {}
    for position, text in enumerate(reducer_names):
        if text == AFTER_SMOOTHING:
            chosen[text] = _after_smoothing(everybody, consensus)
            continue
        label, name, said = choose_reducer(text, options if position == 0 else None)
        label = label if consensus is None else f"{label}, {consensus}-consensus"
        classifier = BaseClassifier(label, everybody, name, said, consensus)
        # Options that do not suit this many members are refused before anything is spent.
        classifier.voter()(torch.zeros(members, 1, 2))
        chosen.setdefault(label, classifier)
    if members == 1:
        return [BaseClassifier("model", (0,))]
    found = list(chosen.values())
    if each or any(classifier.after for classifier in found):
        found += [BaseClassifier(f"member-{index}", (index,)) for index in everybody]
    if not found:
        raise ParameterError("nothing to certify", repair="--reducer mean, or --each")
    return found
