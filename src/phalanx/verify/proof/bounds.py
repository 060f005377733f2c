"""Cases refuted by a bound of one row, many at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phalanx.verify.proof.broken import ProofBroken
from phalanx.verify.proof.evidence import ByBound, Integers
from phalanx.verify.proof.passes import Lines, Net, Passes
from phalanx.verify.proof.rounding import Array
from phalanx.verify.proof.rows import Rows, weighed

NUMBERS_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class Bounds:
    """What a file says of cases that were refuted by bounds.

    Attributes:
        cases: their numbers, ``(K,)``.
        rows: which row of each, ``(K,)``.
        own: which of the slopes, ``(K,)``; -1: the usual ones.
        slopes: below all ReLUs, one after the other, ``(K', N)`` in float16.
    """

    cases: Integers
    rows: Integers
    own: Integers
    slopes: NDArray[np.float16]

    @classmethod
    def of(cls, net: Net, found: Mapping[int, ByBound]) -> Bounds:
        """From what searches tell, by the number of the case."""
        own: list[int] = []
        slopes: list[NDArray[np.float16]] = []
        for bound in found.values():
            own.append(len(slopes) if bound.slopes else -1)
            if bound.slopes:
                slopes.append(flat_slopes(net, bound.slopes))
        size = sum(int(np.prod(node.shape)) for node in net.relus)
        stacked = np.stack(slopes) if slopes else np.zeros((0, size), dtype=np.float16)
        return cls(
            np.array(list(found), dtype=np.int64),
            np.array([bound.row for bound in found.values()], dtype=np.int64),
            np.array(own, dtype=np.int64),
            stacked,
        )

    def check(self, net: Net, cases: Sequence[Rows]) -> int:
        """Every case has its bound above zero; how many there are.

        Raises:
            ProofBroken: the first case whose bound is not, or numbers out of range.
        """
        self._in_range(net, cases)
        lower = self.lower(net, cases)
        open_ = np.flatnonzero(~(lower > 0))
        if len(open_):
            at = int(open_[0])
            raise ProofBroken(
                f"case {self.cases[at]}",
                f"the bound of row {self.rows[at]} is {lower[at]:.3g}, not above 0",
            )
        return len(lower)

    def lower(self, net: Net, cases: Sequence[Rows]) -> Array:
        """The bounds ``(K,)``."""
        groups = _groups(net, [cases[case] for case in self.cases])
        return np.concatenate([np.zeros(0), *(self._lower(net, cases, g) for g in groups)])

    def _lower(self, net: Net, cases: Sequence[Rows], group: list[int]) -> Array:
        """Bounds of some cases."""
        keys: dict[bytes, int] = {}
        boxes: list[Rows] = []
        at: list[int] = []
        for k in group:
            rows = cases[self.cases[k]]
            if rows.key not in keys:
                keys[rows.key] = len(boxes)
                boxes.append(rows)
            at.append(keys[rows.key])
        lower, upper = (np.stack([getattr(r, side) for r in boxes]) for side in ("lower", "upper"))
        passes, found = Passes(net, lower, upper), []
        for k, box in zip(group, at, strict=True):
            rows, where = cases[self.cases[k]], np.array([box], dtype=np.int64)
            share = np.zeros((1, len(rows)))
            share[0, self.rows[k]] = 1.0
            lines = None
            if self.own[k] >= 0:
                lines = moved(passes, box, self.slopes[self.own[k]])
            found.append(weighed(passes, rows, share, where, lines=lines).lower[0])
        return np.array(found)

    def _in_range(self, net: Net, cases: Sequence[Rows]) -> None:
        count = len(self.cases)
        if not len(self.rows) == len(self.own) == count:
            raise ProofBroken("bounds", "not every case has a row")
        if not bool(((self.cases >= 0) & (self.cases < len(cases))).all()):
            raise ProofBroken("bounds", "of a case that there is not")
        rows = np.array([len(cases[case]) for case in self.cases], dtype=np.int64)
        if not bool(((self.rows >= 0) & (self.rows < rows)).all()):
            raise ProofBroken("bounds", "of a row that there is not")
        if not bool(((self.own >= -1) & (self.own < len(self.slopes))).all()):
            raise ProofBroken("bounds", "by slopes that there are not")
        size = sum(int(np.prod(node.shape)) for node in net.relus)
        if self.slopes.ndim != 2 or self.slopes.shape[1] != size:
            raise ProofBroken("slopes", f"not {size} of them for each case")
        if not bool(((self.slopes >= 0) & (self.slopes <= 1)).all()):
            raise ProofBroken("slopes", "not all are numbers from 0 to 1")


def flat_slopes(net: Net, slopes: Mapping[str, Array]) -> NDArray[np.float16]:
    """Slopes below all ReLUs of a network, one after the other; 0 where there are none."""
    parts = [
        np.asarray(slopes.get(node.name, np.zeros(node.shape)), dtype=np.float64).reshape(-1)
        for node in net.relus
    ]
    return np.concatenate([np.zeros(0), *parts]).clip(0, 1).astype(np.float16)


def moved(passes: Passes, box: int, slopes: NDArray[np.float16]) -> dict[str, Lines]:
    """The lines of one box with other slopes below ReLUs whose sign is open."""
    found, start = {}, 0
    for node in passes.net.relus:
        usual = passes.lines[node.name]
        below, above, high = (part[min(box, len(part) - 1)][None] for part in usual)
        size = int(np.prod(node.shape))
        own = slopes[start : start + size].astype(np.float64).reshape(below.shape)
        open_ = (above > 0) & (above < 1)
        found[node.name] = Lines(np.where(open_, own, below), above, high)
        start += size
    return found


def _groups(net: Net, rows: Sequence[Rows]) -> Iterator[list[int]]:
    """Cases in order, as many at once as are worth it."""
    most = max(1, NUMBERS_AT_ONCE // net.widest)
    group: list[int] = []
    keys: set[bytes] = set()
    for at, own in enumerate(rows):
        if group and own.key not in keys and len(keys) * 32 >= most:
            yield group
            group, keys = [], set()
        group.append(at)
        keys.add(own.key)
    if group:
        yield group
