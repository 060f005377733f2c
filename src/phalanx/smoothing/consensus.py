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
from phalanx.smoothing.classifiers import BaseClassifier
from phalanx.smoothing.votes import Ready, Waiting, answers, voters_of, votes_of


class Consensus:
    """The first K members answer every row, the others those on which these differ.

    Attributes:
        rows, agreed: rows taken so far, and those on which the first K agreed.
    """

    def __init__(self, bank: MemberBank, classifiers: Sequence[BaseClassifier], first: int) -> None:
        self._bank, self._voters = bank, voters_of(classifiers)
        self._agreed = classifiers[0].agreed
        self._first, self._rest = range(first), range(first, len(bank))
        self._done: list[Ready] = []
        self._waiting, self._logits = Waiting(), torch.empty(0)
        self.rows = self.agreed = 0

    def push(self, x: Tensor, owners: Sequence[Any], owner: Tensor, row: Tensor) -> None:
        """Run the first members; keep the rows on which they differ."""
        logits = answers(self._bank, x, self._first)[:, : len(owner)]
        votes, agree = self._agreed(logits)
        apart = torch.nonzero(~agree).flatten()
        self.rows, self.agreed = self.rows + len(owner), self.agreed + len(owner) - len(apart)
        together = votes[agree].expand(len(self._voters), -1)
        self._done.append(Ready(owners, owner[agree], row[agree], together))
        if not self._logits.numel():
            self._logits = logits.new_zeros(len(logits), len(x), logits.shape[-1])
        while len(apart):
            taken, place = self._waiting.take(x, apart, owners, owner, row)
            self._logits[:, place] = logits[:, taken]
            apart = apart[len(taken) :]
            if self._waiting.full:
                self._done.append(self._ask_the_rest())

    def ready(self, *, flush: bool) -> Iterator[Ready]:
        """Agreed rows at once, the others when their batch was full or with ``flush``."""
        if flush and self._waiting.count:
            self._done.append(self._ask_the_rest())
        done, self._done = self._done, []
        yield from done

    def _ask_the_rest(self) -> Ready:
        rest = answers(self._bank, self._waiting.batch(), self._rest)
        logits = torch.cat([self._logits, rest])[:, : self._waiting.count]
        return Ready(*self._waiting.release(), votes_of(self._voters, logits))
