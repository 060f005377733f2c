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
MOST_AT_ONCE = 512
FEWER_BOXES = 8
"""Boxes of a pass, each with as many rows as it has values, are fewer than its cases by this."""


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
        """Bounds of some cases: all their rows side by side."""
        places: dict[bytes, int] = {}
        boxes: list[Rows] = []
        at = np.zeros(len(group), dtype=np.int64)
        for k, member in enumerate(group):
            rows = cases[self.cases[member]]
            if rows.key not in places:
                places[rows.key] = len(boxes)
                boxes.append(rows)
            at[k] = places[rows.key]
        lower, upper = (np.stack([getattr(r, side) for r in boxes]) for side in ("lower", "upper"))
        passes = Passes(net, lower, upper)
        asked = joined([(cases[self.cases[k]], int(self.rows[k])) for k in group])
        own = self.own[group]
        lines = moved(passes, at, self.slopes, own) if bool((own >= 0).any()) else None
        return weighed(passes, asked, np.eye(len(group)), at, lines=lines).lower

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


def joined(picked: Sequence[tuple[Rows, int]]) -> Rows:
    """One row of each of several cases, as if they were one; its box is that of the first."""
    inputs = None
    if any(rows.inputs is not None for rows, _ in picked):
        shape = next(rows.inputs.shape[1:] for rows, _ in picked if rows.inputs is not None)
        none = np.zeros(shape)
        inputs = np.stack([none if r.inputs is None else r.inputs[row] for r, row in picked])
    first = picked[0][0]
    return Rows(
        first.lower,
        first.upper,
        np.stack([rows.outputs[row] for rows, row in picked]),
        inputs,
        np.array([rows.offset[row] for rows, row in picked]),
    )


def moved(
    passes: Passes, at: Integers, slopes: NDArray[np.float16], own: Integers
) -> dict[str, Lines]:
    """The lines of boxes ``(R,)`` with slopes of the rows' own below ReLUs whose sign is open.

    Args:
        passes: of the boxes.
        at: which box each row is asked on.
        slopes: ``(K', N)``.
        own: which of the slopes are a row's, ``(R,)``; -1: the usual ones.
    """
    found, start = {}, 0
    for node in passes.net.relus:
        usual = passes.lines[node.name]
        below, above, high = (part[at] if len(part) > 1 else part for part in usual)
        size = int(np.prod(node.shape))
        chosen = slopes[own, start : start + size].astype(np.float64).reshape(-1, *node.shape)
        told = (own >= 0).reshape(-1, *[1] * len(node.shape))
        open_ = (above > 0) & (above < 1) & told
        found[node.name] = Lines(np.where(open_, chosen, below), above, high)
        start += size
    return found


def _groups(net: Net, rows: Sequence[Rows]) -> Iterator[list[int]]:
    """Cases in order, as many at once as are worth it."""
    most = min(MOST_AT_ONCE, max(1, NUMBERS_AT_ONCE // net.widest))
    group: list[int] = []
    keys: set[bytes] = set()
    for at, own in enumerate(rows):
        if len(group) >= most or (own.key not in keys and len(keys) * FEWER_BOXES >= most):
            yield group
            group, keys = [], set()
        group.append(at)
        keys.add(own.key)
    if group:
        yield group
