"""Which chunks of noise an image still needs; one file a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from phalanx.registry import Registry
from phalanx.runs.schema import Counts

Tally = Mapping[tuple[str, str], tuple[int, Counts]]
"""(classifier, phase) -> (rows counted so far, votes)."""


class Chunk(NamedTuple):
    """One keyed piece of sampling: the unit of work, of commit and of noise."""

    phase: str
    index: int  # type: ignore[assignment]  # it hides tuple.index, which nobody needs
    rows: int


class StoppingRule(Protocol):
    """Decides, from what has been counted, what to sample next.

    A rule may look at tallies only where its statistics allow it: the level of the final
    certificate must hold for the number of samples it ends with.
    """

    def wanted(self, tally: Tally) -> list[Chunk]:
        """Chunks to sample next (those already counted included); [] when nothing more is."""
        ...


RuleFactory = Callable[..., StoppingRule]
"""``factory(n=..., n0=..., chunk=...) -> StoppingRule``."""

rules: Registry[RuleFactory] = Registry(
    "stopping", "phalanx.smoothing.stopping", noun="stopping rule"
)


def cut(phase: str, total: int, chunk: int) -> Iterator[Chunk]:
    """``total`` samples of a phase in chunks of ``chunk`` rows; the last may be shorter.

    >>> [c.rows for c in cut("estimation", 2500, 1000)]
    [1000, 1000, 500]
    """
    for index, start in enumerate(range(0, total, chunk)):
        yield Chunk(phase, index, min(chunk, total - start))
