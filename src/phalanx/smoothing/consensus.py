"""K-consensus: where the first K members agree, the others are not asked (Horvath et al. 2022).

It is a base classifier of its own, F_K, and what is certified is F_K: where the first K agree it
answers with their class, elsewhere with the reducer over all. Rows on which they differ wait,
copied out of many batches, images and chunks, until they fill a batch of the run's one shape for
the remaining members; so nothing depends on who waited together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from phalanx.smoothing.bank import MemberBank
from phalanx.smoothing.classifiers import BaseClassifier, agreed_votes
from phalanx.smoothing.votes import Ready, VoteSource, WholeEnsemble, answers, voters_of, votes_of


class Consensus:
    """The first K members answer every row, the others those on which these differ.

    Attributes:
        rows, agreed: rows taken so far, and those on which the first K agreed.
    """

    def __init__(self, bank: MemberBank, classifiers: Sequence[BaseClassifier], first: int) -> None:
        self._bank, self._voters = bank, voters_of(classifiers)
        self._first, self._rest = range(first), range(first, len(bank))
        self._done: list[Ready] = []
        self._inputs = self._logits = torch.empty(0)
        self._owners: list[Any] = []
        self._owner: list[Tensor] = []
        self._waiting = 0
        self.rows = self.agreed = 0

    def push(self, x: Tensor, owners: Sequence[Any], owner: Tensor) -> None:
        """Run the first members; keep the rows on which they differ."""
        logits = answers(self._bank, x, self._first)[:, : len(owner)]
        votes, agree = agreed_votes(logits)
        apart = torch.nonzero(~agree).flatten()
        self.rows, self.agreed = self.rows + len(owner), self.agreed + len(owner) - len(apart)
        together = votes[agree].expand(len(self._voters), -1)
        self._done.append(Ready(owners, owner[agree], together))
        start = 0
        while start < len(apart):
            room = len(x) - self._waiting
            taken = apart[start : start + room]
            self._keep(x, logits, taken, owners, owner)
            start += len(taken)
            if self._waiting == len(x):
                self._done.append(self._ask_the_rest())

    def ready(self, *, flush: bool) -> Iterator[Ready]:
        """Agreed rows at once, the others when their batch was full or with ``flush``."""
        if flush and self._waiting:
            self._done.append(self._ask_the_rest())
        done, self._done = self._done, []
        yield from done

    def _keep(
        self, x: Tensor, logits: Tensor, taken: Tensor, owners: Sequence[Any], owner: Tensor
    ) -> None:
        if not self._inputs.numel():
            self._inputs = torch.zeros_like(x)
            self._logits = logits.new_zeros(len(logits), len(x), logits.shape[-1])
        place = slice(self._waiting, self._waiting + len(taken))
        self._inputs[place] = x[taken]
        self._logits[:, place] = logits[:, taken]
        self._owner.append(owner[taken] + len(self._owners))
        self._owners += owners
        self._waiting += len(taken)

    def _ask_the_rest(self) -> Ready:
        rows = self._waiting
        self._inputs[rows:].zero_()
        rest = answers(self._bank, self._inputs, self._rest)
        logits = torch.cat([self._logits, rest])[:, :rows]
        found = Ready(self._owners, torch.cat(self._owner), votes_of(self._voters, logits))
        self._owners, self._owner, self._waiting = [], [], 0
        return found


def source_of(bank: MemberBank, classifiers: Sequence[BaseClassifier]) -> VoteSource:
    """The source that asks no more members than the classifiers need.

    Members are spared where every classifier is a consensus of the same first K.
    """
    first = {classifier.consensus for classifier in classifiers}
    everybody = tuple(range(len(bank)))
    shared = len(first) == 1 and all(c.members == everybody for c in classifiers)
    consensus = first.pop() if shared else None
    if consensus is None or consensus >= len(bank):
        return WholeEnsemble(bank, classifiers)
    return Consensus(bank, classifiers, consensus)
