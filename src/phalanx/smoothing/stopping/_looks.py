"""What rules share that look at the counts again and again: looks, paths, and the conclusion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phalanx.runs.schema import ESTIMATION, INVALID, SELECTION, Counts
from phalanx.smoothing.confidence.clopper_pearson import check_alpha
from phalanx.smoothing.confidence.truncated_mixture import TruncatedMixture
from phalanx.smoothing.stopping import (
    Chunk,
    Evidence,
    Setting,
    Votes,
    cut,
    missing,
    selected,
    tally,
)

FIRST_LOOK = 50
"""Samples before the first look: few inputs are decided by less at alpha = 0.001."""

GROWTH = 1.25
"""Samples at a look, in those of the look before: what is wasted is a tenth on average."""

ANYTIME = TruncatedMixture()


def growing(phase: str, total: int, chunk: int) -> Iterator[Chunk]:
    """``total`` samples of a phase in chunks that grow up to ``chunk`` rows, a look after each.

    >>> [c.rows for c in growing("estimation", 500, 10_000)]
    [50, 50, 50, 50, 50, 62, 78, 97, 13]
    """
    seen = index = 0
    while seen < total:
        rows = max(FIRST_LOOK, int(seen * (GROWTH - 1)))
        rows = min(rows, chunk, total - seen)
        yield Chunk(phase, index, rows)
        seen, index = seen + rows, index + 1


@dataclass(frozen=True)
class Path:
    """One classifier's votes after each look: int64 ``(looks,)`` each (or ``(runs, looks)``).

    Attributes:
        seen: samples so far.
        hits: those that voted for the class.
        broken: those that were not finite, selection included.
    """

    seen: NDArray[np.int64]
    hits: NDArray[np.int64]
    broken: NDArray[np.int64]


def path_of(selection: Counts, estimation: Sequence[Counts], label: int) -> Path:
    """The path of a class through the estimation chunks."""
    rows = [(sum(c.values()), c.get(label, 0), c.get(INVALID, 0)) for c in estimation]
    seen, hits, broken = np.array(rows, dtype=np.int64).reshape(-1, 3).cumsum(axis=0).T
    return Path(seen, hits, broken + selection.get(INVALID, 0))


def anytime_alpha(setting: Setting) -> float:
    """The share of alpha that is spent on looking; the rest is for a last bound at ``n``."""
    return setting.alpha * (1 - setting.reserve)


@dataclass(frozen=True)
class LookByLook(ABC):
    """A rule that looks at the counts again and again; a subclass says when it has seen enough."""

    setting: Setting

    def __post_init__(self) -> None:
        """Refuse shares of alpha that are too small for a bound, before anything is counted."""
        self.setting.require_two_classes("anytime")
        check_alpha(anytime_alpha(self.setting))
        check_alpha(self.setting.alpha - anytime_alpha(self.setting))

    @abstractmethod
    def decided(self, path: Path) -> NDArray[np.bool_]:
        """Whether the rule would stop, at each look of a path: bool ``(looks,)``."""

    def decide(self, votes: Votes) -> list[Chunk] | Evidence:
        """The next look, or what is proven at the first look at which all is decided."""
        s = self.setting
        selection = list(cut(SELECTION, s.n0, s.chunk))
        looks = list(growing(ESTIMATION, s.n, s.chunk))
        counted = votes.get(ESTIMATION, ())[: len(looks)]
        if missing(votes, selection) or not counted:
            return [*selection, looks[0]]
        chosen = tally(votes, selection)
        label = selected(chosen)
        path = path_of(chosen, counted, label)
        # A vote that is not finite ends in an error, so nothing is gained by going on.
        ends = np.flatnonzero(self.decided(path) | (path.broken > 0))
        if len(ends):
            return _evidence(s, label, path, int(ends[0]))
        if len(counted) < len(looks):
            return [looks[len(counted)]]
        return _evidence(s, label, path, len(looks) - 1)

    def most(self) -> float:
        """The larger of its two bounds, of n votes out of n."""
        s, spent = self.setting, anytime_alpha(self.setting)
        return max(ANYTIME.lower(s.n, s.n, spent), s.bound.lower(s.n, s.n, s.alpha - spent))

    def samples(self) -> int:
        """Selection and estimation."""
        return self.setting.n0 + self.setting.n


def _evidence(setting: Setting, label: int, path: Path, look: int) -> Evidence:
    """The best anytime bound up to a look, and at the last also that of the reserved share.

    Each is wrong with at most its share of alpha, so the larger one with at most alpha.
    """
    n, n_a, broken = (int(values[look]) for values in (path.seen, path.hits, path.broken))
    past = slice(look + 1)
    p_lower = ANYTIME.best_lower(path.hits[past], path.seen[past], anytime_alpha(setting))
    if n == setting.n:
        last = setting.bound.lower(n_a, n, setting.alpha - anytime_alpha(setting))
        p_lower = max(p_lower, last)
    return Evidence(label, n_a, n, p_lower, broken, n + setting.n0)
