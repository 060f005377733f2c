"""A member drawn for every noisy row: the vote of a random ensemble, at one member's cost.

The draw belongs to the noise: it is keyed by image, phase and chunk, and independent from row to
row. So the votes are those of one random function, the even mixture of the members, and Cohen's
bound holds for it. A member drawn once a call or once a batch would not do: its certificate is that
of whoever was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from phalanx.smoothing.bank import MemberBank
from phalanx.smoothing.choices import EVERY, Choices
from phalanx.smoothing.votes import Ready, Waiting, answers


class RandomMember:
    """Rows wait, member by member, until they fill a batch for the one that was drawn."""

    def __init__(self, bank: MemberBank, choices: Choices = EVERY) -> None:
        self._bank, self._choices = bank, choices
        self._waiting = [Waiting() for _ in range(len(bank))]
        self._done: list[Ready] = []
        self.rows = self.agreed = 0

    def push(self, x: Tensor, owners: Sequence[Any], owner: Tensor, row: Tensor) -> None:
        """Draw a member for each row; ask those whose batch is full."""
        shares = torch.bincount(owner, minlength=len(owners)).tolist()
        pairs = zip(owners, shares, strict=True)
        drawn = torch.cat([one.members(rows, len(self._bank)) for one, rows in pairs])
        self.rows += len(owner)
        for member, waiting in enumerate(self._waiting):
            rows = torch.nonzero(drawn == member).flatten()
            while len(rows):
                taken, _ = waiting.take(x, rows, owners, owner, row)
                rows = rows[len(taken) :]
                if waiting.full:
                    self._done.append(self._ask(member))

    def ready(self, *, flush: bool) -> Iterator[Ready]:
        """Votes of full batches, and with ``flush`` of the others."""
        if flush:
            for member, waiting in enumerate(self._waiting):
                if waiting.count:
                    self._done.append(self._ask(member))
        done, self._done = self._done, []
        yield from done

    def _ask(self, member: int) -> Ready:
        waiting = self._waiting[member]
        logits = answers(self._bank, waiting.batch(), range(member, member + 1))
        votes = self._choices.decide(lambda z: z[0], logits[:, : waiting.count])
        return Ready(*waiting.release(), votes[None])
