"""Random ensembles: k of N members answer, drawn anew for every query; what that is worth, exactly.

A uniform draw has finitely many outcomes, so what it does on average is a sum over them and is
never estimated by sampling: the accuracy under ``delta`` is ``A(delta) = mean over subsets S of
1[F_S(x + delta) = y]``. The draw itself is keyed by seed, sample and query, so neither the batch
nor the order in which samples come can change who answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import torch
from torch import Tensor

from phalanx.ensembles.ensemble import Ensemble, Reducer, decide
from phalanx.errors import ParameterError
from phalanx.runtime.keys import noise_key

MOST_SUBSETS = 10_000


@dataclass(frozen=True)
class Draws:
    """How many of the equally likely draws are right about each input.

    Attributes:
        right: int64 ``(B,)``. A draw whose scores are not finite is never right.
        subsets: how many draws there are.
    """

    right: Tensor
    subsets: int

    @property
    def expected(self) -> Tensor:
        """The chance of a right answer, float64 ``(B,)``."""
        return self.right.double() / self.subsets

    @property
    def always(self) -> Tensor:
        """Whether no draw is wrong, bool ``(B,)``: what holds against who may ask again."""
        return self.right == self.subsets

    @property
    def ever(self) -> Tensor:
        """Whether some draw is right, bool ``(B,)``."""
        return self.right > 0


class RandomEnsemble:
    """Members of which ``drawn`` answer each query, under the ensemble's reducer.

    Args:
        ensemble: the members and the reducer of those that are drawn.
        drawn: how many answer, 1 <= drawn <= members; 1 is RED's, all of them the plain ensemble.

    Raises:
        ParameterError: another number, or a reducer that does not suit so many.
    """

    def __init__(self, ensemble: Ensemble, drawn: int = 1) -> None:
        subsets_of(len(ensemble.models), drawn, limit=None)
        self.ensemble, self.drawn = ensemble, drawn
        ensemble.reducer(torch.zeros(drawn, 1, ensemble.classes))

    def draw(self, samples: Sequence[int], seed: int, query: int = 0) -> Tensor:
        """Who answers: int64 ``(B, drawn)``, each row increasing.

        Args:
            samples: what the inputs are, for example their indices in the data set.
            seed: of the run.
            query: counts the questions asked about one sample.
        """
        members = len(self.ensemble.models)
        rows = []
        for sample in samples:
            key = noise_key("members", seed, int(sample), query)
            order = np.random.Generator(np.random.Philox(key=key)).permutation(members)
            rows.append(sorted(order[: self.drawn].tolist()))
        return torch.tensor(rows, dtype=torch.int64).view(len(rows), self.drawn)

    def scores(self, x: Tensor, samples: Sequence[int], seed: int, query: int = 0) -> Tensor:
        """Scores ``(B, C)`` of who was drawn for each row of ``x``, ``(B, *shape)``; see `draw`.

        A member is only shown the rows it was drawn for.

        Raises:
            ParameterError: there are not as many samples as rows.
        """
        if len(samples) != len(x):
            raise ParameterError(f"{len(samples)} samples for {len(x)} inputs", why="one for each")
        chosen = self.draw(samples, seed, query).to(x.device)
        logits = x.new_empty(self.drawn, len(x), self.ensemble.classes, dtype=torch.float32)
        for index, member in enumerate(self.ensemble.models):
            rows, places = (chosen == index).nonzero(as_tuple=True)
            if len(rows):
                logits = logits.index_put((places, rows), member(x[rows]).float())
        return self.ensemble.reducer(logits)

    def judge(self, x: Tensor, y: Tensor) -> Draws:
        """What every possible draw says of ``x``; each member is run once.

        Raises:
            ParameterError: there are more than `MOST_SUBSETS` draws.
        """
        with torch.no_grad():
            return draws(self.ensemble.member_logits(x), y, self.drawn, self.ensemble.reducer)


def draws(logits: Tensor, y: Tensor, drawn: int, reducer: Reducer) -> Draws:
    """How many of the ``drawn``-subsets of members are right, by going through all of them.

    Args:
        logits: of every member, ``(M, B, C)``.
        y: classes ``(B,)``.
        drawn: members that answer.
        reducer: from their logits to a decision.

    Raises:
        ParameterError: there are more than `MOST_SUBSETS` of them.

    >>> logits = torch.tensor([[[2.0, 0.0]], [[2.0, 0.0]], [[0.0, 3.0]]])
    >>> mean = lambda z: z.mean(0)
    >>> [draws(logits, torch.tensor([0]), k, mean).expected.item() for k in (1, 3)]
    [0.6666666666666666, 1.0]
    """
    subsets = subsets_of(len(logits), drawn)
    right = torch.zeros_like(y)
    for subset in subsets:
        right += decide(reducer, logits[list(subset)]) == y
    return Draws(right, len(subsets))


def subsets_of(members: int, drawn: int, limit: int | None = MOST_SUBSETS) -> list[tuple[int, ...]]:
    """Every way to draw some of the members; with no limit none is listed, only checked.

    Raises:
        ParameterError: fewer than 1 or more than all of them, or more ways than ``limit``.

    >>> subsets_of(3, 2)
    [(0, 1), (0, 2), (1, 2)]
    """
    if not 1 <= drawn <= members:
        raise ParameterError(
            f"{drawn} of {members} members are to be drawn", repair=f"a number in 1 .. {members}"
        )
    if limit is None:
        return []
    if (ways := comb(members, drawn)) > limit:
        raise ParameterError(
            f"there are {ways} ways to draw {drawn} of {members} members",
            why=f"what is expected is summed over all of them, at most {limit}",
            repair="draw fewer",
        )
    return list(combinations(range(members), drawn))
