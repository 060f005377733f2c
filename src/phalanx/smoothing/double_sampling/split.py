"""A fixed number of samples for two laws of noise: the selection decides which gets how many.

Phases have noise of their own, so the number of votes that chose the class is independent of all
votes that are counted for it. Whatever follows from it - here, how many samples each law gets -
is fixed before the first of them, and the level of the bounds holds as for a number that was
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from phalanx.errors import ParameterError
from phalanx.runs.schema import ESTIMATION, INVALID, SECOND_LAW, SELECTION
from phalanx.smoothing.checks import check_count
from phalanx.smoothing.double_sampling.budget import SHARES, plan_budget
from phalanx.smoothing.double_sampling.laws import GeneralisedGaussian, SecondLaw
from phalanx.smoothing.stopping import (
    Chunk,
    Evidence,
    SecondVotes,
    Setting,
    Votes,
    cut,
    fixed_evidence,
    missing,
    selected,
    tally,
)

FEWEST = 100
"""Samples, below which nothing is worth splitting."""

Split = Sequence[int]
"""Samples of the first law by the number of selection votes for the class, 0 .. n0; or one for
all of them. What is left of n is for the second law."""


@lru_cache(maxsize=64)
def planned_split(
    law: GeneralisedGaussian, second: SecondLaw, n: int, n0: int, alpha: float
) -> tuple[int, ...]:
    """The split that `plan_budget` predicts to be best, n where that is Neyman-Pearson.

    Raises:
        ParameterError: fewer than `FEWEST` samples.

    >>> from phalanx.smoothing.double_sampling.laws import SmallerVariance
    >>> law = GeneralisedGaussian(784, 380, 0.5)
    >>> split = planned_split(law, SmallerVariance(0.4), 100_000, 10, 0.001)
    >>> len(split), split[9] < split[6] < 100_000
    (11, True)
    """
    check_count("n", n)
    check_count("n0", n0)
    shares = [share for share in SHARES if 1 <= round(n * share) < n]
    budget = plan_budget(law, second, n, alpha, shares=shares, two_sided=False)
    return tuple(budget.choose(hits, n0).n_p for hits in range(n0 + 1))


def check_split(split: Split, n: int, n0: int) -> None:
    """Refuse what is no split of n samples.

    Raises:
        ParameterError: its length is neither 1 nor n0 + 1, or a number is not in 1 .. n.
    """
    if len(split) not in (1, n0 + 1) or not all(type(k) is int and 1 <= k <= n for k in split):
        raise ParameterError(
            f"a split of {n} samples in {len(split)} numbers",
            why=f"it is one number of samples from 1 to {n}, or one for each of 0 to {n0}"
            " selection votes",
            repair=f"--set split=[{max(1, n // 2)}], or no split: then it is planned",
        )


@dataclass(frozen=True)
class SplitSampling:
    """The stopping rule: ``n0`` samples choose class and split, ``n`` fresh ones bound it.

    Where the second law gets samples, the lower bounds on both probabilities have half of alpha
    each; where it gets none, the one that is left has all of it.

    Attributes:
        split: when it is asked for.
    """

    setting: Setting
    split: Callable[[], Split]

    def decide(self, votes: Votes) -> list[Chunk] | Evidence:
        """The selection and what any split needs; then what its own does, all of it."""
        s, split = self.setting, self.split()
        selection = list(cut(SELECTION, s.n0, s.chunk))
        if missing(votes, selection):
            fewest = self._chunks(min(split)), self._chunks(max(split))
            return [*selection, *(c for c in fewest[0] if c in fewest[1])]
        chosen = tally(votes, selection)
        label = selected(chosen)
        n_p = of_votes(split, chosen.get(label, 0))
        chunks = self._chunks(n_p)
        if chosen.get(INVALID, 0):
            return Evidence(label, 0, 0, 0.0, chosen[INVALID], s.n0)
        if missing(votes, chunks):
            return chunks
        of_p = tally(votes, (chunk for chunk in chunks if chunk.phase == ESTIMATION))
        if n_p == s.n:
            return fixed_evidence(chosen, of_p, s.bound, s.alpha)
        found = fixed_evidence(chosen, of_p, s.bound, s.alpha / 2)
        of_q = tally(votes, (chunk for chunk in chunks if chunk.phase == SECOND_LAW))
        hits, n_q = of_q.get(label, 0), s.n - n_p
        return found._replace(
            broken=found.broken + of_q.get(INVALID, 0),
            samples=found.samples + n_q,
            second=SecondVotes(hits, n_q, s.bound.lower(hits, n_q, s.alpha / 2)),
        )

    def _chunks(self, n_p: int) -> list[Chunk]:
        """What the two laws need where the first gets ``n_p`` samples."""
        n, split = self.setting.n, self.split()
        of_p = pieces(ESTIMATION, n_p, split, self.setting.chunk)
        of_q = pieces(SECOND_LAW, n - n_p, [n - k for k in split], self.setting.chunk)
        return [*of_p, *of_q]

    def unanimous(self) -> Evidence:
        """What it concludes where every vote is for one class."""
        s, split = self.setting, self.split()
        n_p = of_votes(split, s.n0)
        if n_p == s.n:
            lower = s.bound.lower(s.n, s.n, s.alpha)
            return Evidence(0, s.n, s.n, lower, 0, self.samples())
        n_q, half = s.n - n_p, s.alpha / 2
        second = SecondVotes(n_q, n_q, s.bound.lower(n_q, n_q, half))
        lower = s.bound.lower(n_p, n_p, half)
        return Evidence(0, n_p, n_p, lower, 0, self.samples(), second=second)

    def most(self) -> float:
        """The larger of what n votes out of n give, and of what its own split of them does."""
        return self.unanimous().p_lower

    def samples(self) -> int:
        """Selection, and both laws."""
        return self.setting.n0 + self.setting.n


def of_votes(split: Split, hits: int) -> int:
    """Samples of the first law for a number of selection votes.

    >>> of_votes([500], 7), of_votes([900, 800, 700], 2)
    (500, 700)
    """
    return split[0] if len(split) == 1 else split[hits]


def pieces(phase: str, total: int, ends: Iterable[int], chunk: int) -> Iterator[Chunk]:
    """The first ``total`` samples of a phase in chunks of at most ``chunk`` rows, cut at ``ends``.

    So whichever of the ends is taken, it is made of the same chunks of the same noise, and inputs
    and classifiers that take different ones share what they have in common.

    Args:
        total: 0 or one of the ends.

    >>> [c.rows for c in pieces("estimation", 800, [1000, 800, 500], 300)]
    [300, 200, 300]
    """
    index = 0
    for begin, end in pairwise([0, *sorted({end for end in ends if end > 0})]):
        for start in range(begin, end, chunk):
            if start >= total:
                return
            yield Chunk(phase, index, min(chunk, end - start))
            index += 1
