"""From noisy inputs to votes: which members are asked, and when.

A source receives batches of noisy rows and hands out votes, each with the chunk it belongs to. It
may hold rows back - to reduce many at once, or because few of them need the remaining members -
as long as it hands out all of them when it is told that no more will come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from phalanx.ensembles.ensemble import Reducer
from phalanx.errors import ModelError
from phalanx.smoothing.bank import MemberBank
from phalanx.smoothing.classifiers import BaseClassifier

BLOCK_ROWS = 1024
"""Rows whose logits are gathered before they are reduced to votes (saves small kernels)."""


class Ready(NamedTuple):
    """Votes that are final.

    Attributes:
        owners: the chunks that rows belong to.
        owner: int64 ``(R,)``, each row's index into ``owners``.
        row: int64 ``(R,)``, its number in the chunk.
        votes: int64 ``(classifiers, R)``; -1 where logits were not finite.
    """

    owners: Sequence[Any]
    owner: Tensor
    row: Tensor
    votes: Tensor


class VoteSource(Protocol):
    """See the module.

    Attributes:
        rows, agreed: rows taken so far, and those for which members were spared.
    """

    rows: int
    agreed: int

    def push(self, x: Tensor, owners: Sequence[Any], owner: Tensor, row: Tensor) -> None:
        """Take ``len(owner)`` noisy rows; ``x`` is a whole batch, padded behind them.

        The others are those of `Ready`. ``x`` is overwritten after the call.
        """
        ...

    def ready(self, *, flush: bool) -> Iterator[Ready]:
        """Votes that are final by now; with ``flush`` those of every row that was taken."""
        ...


class WholeEnsemble:
    """Every member answers every row; rows are reduced in blocks."""

    def __init__(self, bank: MemberBank, classifiers: Sequence[BaseClassifier]) -> None:
        self._bank, self._voters = bank, voters_of(classifiers)
        self._logits: list[Tensor] = []
        self._owners: list[Any] = []
        self._owner: list[Tensor] = []
        self._row: list[Tensor] = []
        self._waiting = self.rows = self.agreed = 0

    def push(self, x: Tensor, owners: Sequence[Any], owner: Tensor, row: Tensor) -> None:
        """Run the members."""
        self._logits.append(answers(self._bank, x)[:, : len(owner)])
        self._owner.append(owner + len(self._owners))
        self._row.append(row)
        self._owners += owners
        self._waiting += len(owner)
        self.rows += len(owner)

    def ready(self, *, flush: bool) -> Iterator[Ready]:
        """The block, once it is large enough."""
        if not self._waiting or (self._waiting < BLOCK_ROWS and not flush):
            return
        logits, owner = torch.cat(self._logits, dim=1), torch.cat(self._owner)
        row, votes = torch.cat(self._row), votes_of(self._voters, logits)
        found = Ready(self._owners, owner, row, votes)
        self._logits, self._owners, self._owner, self._row, self._waiting = [], [], [], [], 0
        yield found


class Waiting:
    """Rows out of many batches that wait until they fill one of the run's shape.

    Attributes:
        count: rows that wait.
        inputs: the batch, once a row has waited.
    """

    def __init__(self) -> None:
        self.count, self.inputs = 0, torch.empty(0)
        self._owners: list[Any] = []
        self._owner: list[Tensor] = []
        self._row: list[Tensor] = []

    @property
    def full(self) -> bool:
        """Whether no more rows fit."""
        return self.count == len(self.inputs)

    def take(
        self, x: Tensor, rows: Tensor, owners: Sequence[Any], owner: Tensor, row: Tensor
    ) -> tuple[Tensor, slice]:
        """Copy as many of ``rows`` of ``x`` as fit; returns those and their new places."""
        if not self.inputs.numel():
            self.inputs = torch.zeros_like(x)
        taken = rows[: len(x) - self.count]
        place = slice(self.count, self.count + len(taken))
        self.inputs[place] = x[taken]
        self._owner.append(owner[taken] + len(self._owners))
        self._row.append(row[taken])
        self._owners += owners
        self.count += len(taken)
        return taken, place

    def release(self) -> tuple[Sequence[Any], Tensor, Tensor]:
        """Whose the rows are and which, in the order of their places; nobody waits any more."""
        owners, owner, row = self._owners, torch.cat(self._owner), torch.cat(self._row)
        self._owners, self._owner, self._row, self.count = [], [], [], 0
        return owners, owner, row

    def batch(self) -> Tensor:
        """The batch, zero behind the rows that wait."""
        self.inputs[self.count :].zero_()
        return self.inputs


Voters = Sequence[tuple[BaseClassifier, Reducer]]


def voters_of(classifiers: Sequence[BaseClassifier]) -> Voters:
    """The classifiers with their reducers."""
    return [(classifier, classifier.voter()) for classifier in classifiers]


def votes_of(voters: Voters, logits: Tensor) -> Tensor:
    """Votes int64 ``(classifiers, R)`` from member logits ``(M, R, C)``."""
    return torch.stack([classifier.votes(logits, voter) for classifier, voter in voters])


def answers(bank: MemberBank, x: Tensor, members: range | None = None) -> Tensor:
    """Member logits ``(M, B, C)`` of a batch; ``members`` asks some of them only.

    Raises:
        ModelError: a member fails on it.
    """
    try:
        return bank.logits(x, members)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ModelError(
            f"the network failed on a batch of shape {tuple(x.shape)}", why=str(error)
        ) from error
