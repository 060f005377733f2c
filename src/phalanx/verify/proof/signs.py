"""Trees of decided ReLU signs: every leaf has a bound above zero, and a tree leaves nothing out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from phalanx.graph.ir import Node
from phalanx.verify.proof.broken import ProofBroken
from phalanx.verify.proof.evidence import BySigns, Integers, Signs
from phalanx.verify.proof.passes import Below, Lines, Net, Passes
from phalanx.verify.proof.rounding import Array
from phalanx.verify.proof.rows import Rows, weighed

LEAF = -1
NUMBERS_AT_ONCE = 1 << 21


class Closer:
    """Bounds of sub-problems of one case with decided signs.

    A counterexample with these signs has ``rows <= 0`` and ``sign z >= 0``: where ``shares rows -
    multipliers sign z`` is above zero on the box, there is none.

    Args:
        passes: of the one box.
        rows: of the case.
        units: names of ReLUs and flat entries.
    """

    def __init__(self, passes: Passes, rows: Rows, units: Sequence[tuple[str, int]]) -> None:
        self.passes, self.rows = passes, rows
        self._parts = []
        for node in passes.net.relus:
            own = [(at, entry) for at, (name, entry) in enumerate(units) if name == node.name]
            if own:
                places, entries = (
                    np.array(part, dtype=np.int64) for part in zip(*own, strict=True)
                )
                self._parts.append((node, places, entries))

    @property
    def at_once(self) -> int:
        """How many sub-problems fit into a pass."""
        return max(1, NUMBERS_AT_ONCE // self.passes.net.widest)

    def least(self, signs: Signs, slopes: Array, multipliers: Array, shares: Array) -> Below:
        """Bounds ``(D,)`` of D sub-problems, see `BySigns`; what is given must be in its range."""
        more: list[tuple[str, Array]] = []
        lines: dict[str, Lines] = {}
        for node, places, entries in self._parts:
            count = len(signs)
            own, weight = signs[:, places], multipliers[:, places]
            part = np.zeros((count, prod(node.shape)))
            part[:, entries] = np.where(own == 0, 0.0, -weight * own)
            more.append((node.inputs[0], part.reshape(count, *node.shape)))
            lines[node.name] = self._lines(node, own, slopes[:, places], entries)
        at = np.zeros(len(signs), dtype=np.int64)
        return weighed(self.passes, self.rows, shares, at, more=more, lines=lines)

    def _lines(self, node: Node, signs: Signs, slopes: Array, entries: Integers) -> Lines:
        """A unit that is on passes on what it reads, one that is off nothing."""
        side = self.passes.sides[node.inputs[0]]
        low, high = (part.reshape(-1)[entries] for part in side)
        usual = self.passes.lines[node.name]
        found = [np.repeat(part.reshape(1, -1), len(signs), 0) for part in usual]
        found[0][:, entries] = np.where((low < 0) & (high > 0), slopes, found[0][:, entries])
        on, off = signs > 0, signs < 0
        for part, one in zip(found, (1.0, 1.0, 0.0), strict=True):
            part[:, entries] = np.where(on, one, np.where(off, 0.0, part[:, entries]))
        return Lines(*(part.reshape(-1, *node.shape) for part in found))


def tree_of(signs: Signs) -> tuple[Integers, Integers]:
    """A tree over the leaves of a search, and the order of its leaves.

    Some unit is decided in all of them, as one was split first; so it goes on in both halves.

    Raises:
        ProofBroken: the leaves are of no tree.

    >>> split, order = tree_of(np.array([[-1, 0], [1, 1], [1, -1]], dtype=np.int8))
    >>> split.tolist(), order.tolist()
    ([0, 1, -1, -1, -1], [1, 2, 0])
    """
    split: list[int] = []
    order: list[int] = []
    waiting = [(np.arange(len(signs)), np.zeros(signs.shape[1], dtype=bool))]
    while waiting:
        own, used = waiting.pop()
        decided = (signs[own] != 0).all(0) & ~used
        if len(own) == 1 and not (decided.any()):
            split.append(LEAF)
            order.append(int(own[0]))
            continue
        if not len(own) or not decided.any():
            raise ProofBroken("the leaves of a search", "they are of no tree")
        unit = int(decided.argmax())
        used = used.copy()
        used[unit] = True
        split.append(unit)
        waiting += [(own[signs[own, unit] < 0], used), (own[signs[own, unit] > 0], used)]
    return np.array(split, dtype=np.int64), np.array(order, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class SignTree:
    """What a file says of a case that was refuted by signs.

    Attributes:
        units: see `BySigns`.
        split: the tree in the order in which it is walked: which unit, then the half where it is
            on, then the other; `LEAF` at a leaf.
        slopes: of the leaves in this order, ``(L, T)`` in float16.
        multipliers: of each leaf's decided units, in the order of its path, one after the other.
        shares: ``(L, J)``.
    """

    units: tuple[tuple[str, int], ...]
    split: Integers
    slopes: NDArray[np.float16]
    multipliers: Array
    shares: Array

    @classmethod
    def of(cls, found: BySigns) -> SignTree:
        """From what a search tells."""
        split, order = tree_of(found.signs)
        paths = paths_of(split, len(found.units))
        parts = [
            found.multipliers[leaf, [unit for unit, _ in path]]
            for leaf, path in zip(order, paths, strict=True)
        ]
        multipliers = np.concatenate([np.zeros(0), *parts])
        return cls(found.units, split, found.slopes[order], multipliers, found.shares[order])

    def check(self, passes: Passes, rows: Rows) -> int:
        """Every leaf has a bound above zero; their number.

        Raises:
            ProofBroken: which leaf has none, or what the tree leaves out.
        """
        self._in_range(len(rows), passes.net)
        closer, paths = Closer(passes, rows, self.units), paths_of(self.split, len(self.units))
        leaves = int((self.split == LEAF).sum())
        if len(self.slopes) != leaves or len(self.shares) != leaves:
            raise ProofBroken(f"a tree of {leaves} leaves", f"{len(self.shares)} are described")
        used = done = 0
        for start in range(0, leaves, closer.at_once):
            count = min(closer.at_once, leaves - start)
            signs = np.zeros((count, len(self.units)), dtype=np.int8)
            weights = np.zeros((count, len(self.units)))
            for at in range(count):
                path = next(paths)
                units = [unit for unit, _ in path]
                own = self.multipliers[used : used + len(path)]
                if len(own) != len(path):
                    raise ProofBroken(f"leaf {start + at}", "multipliers are missing")
                signs[at, units], weights[at, units] = [sign for _, sign in path], own
                used += len(path)
            part = slice(start, start + count)
            slopes = self.slopes[part].astype(np.float64)
            lower = closer.least(signs, slopes, weights, self.shares[part]).lower
            open_ = np.flatnonzero(~(lower > 0))
            if len(open_):
                at = int(open_[0])
                raise ProofBroken(
                    f"leaf {start + at} of {leaves}", f"its bound is {lower[at]:.3g}, not above 0"
                )
            done += count
        for _ in paths:  # none is left; walks to the end of the tree
            raise ProofBroken("a tree of signs", "it has leaves that were not looked at")
        if used != len(self.multipliers):
            raise ProofBroken("multipliers", "there are more than decided units")
        return done

    def _in_range(self, rows: int, net: Net) -> None:
        count, sizes = len(self.units), {node.name: prod(node.shape) for node in net.relus}
        for name, entry in self.units:
            if not 0 <= entry < sizes.get(name, 0):
                raise ProofBroken(f"unit {entry} of {name!r}", "the network has no such ReLU")
        if len(set(self.units)) != count:
            raise ProofBroken("units", "one is named twice")
        if self.slopes.ndim != 2 or self.slopes.shape[1] != count or self.shares.ndim != 2:
            raise ProofBroken("slopes or shares", "they are of another shape than the tree")
        if self.shares.shape[1] != rows:
            raise ProofBroken("shares", f"of {self.shares.shape[1]} rows, the case has {rows}")
        for name, values, most in (
            ("slopes", self.slopes, 1.0),
            ("multipliers", self.multipliers, np.inf),
            ("shares", self.shares, np.inf),
        ):
            if not bool(((values >= 0) & (values <= most) & np.isfinite(values)).all()):
                raise ProofBroken(name, f"not all are numbers from 0 to {most:g}")


def paths_of(split: Integers, units: int) -> Iterator[list[tuple[int, int]]]:
    """The signs on the way to each leaf of a tree.

    Raises:
        ProofBroken: it is cut off or goes on behind its end, splits what is no unit, or a unit
            twice on a path.

    >>> list(paths_of(np.array([1, -1, -1]), 2))
    [[(1, 1)], [(1, -1)]]
    """
    path: list[tuple[int, int]] = []
    for at, unit in enumerate(split.tolist()):
        if at and not path:
            raise ProofBroken("a tree of signs", "it goes on behind its end")
        if unit == LEAF:
            yield list(path)
            # Back to the last half that is on: the other half comes next.
            while path and path[-1][1] < 0:
                path.pop()
            if path:
                path[-1] = (path[-1][0], -1)
            elif at + 1 != len(split):
                raise ProofBroken("a tree of signs", "it goes on behind its end")
            else:
                return
        elif not 0 <= unit < units or any(unit == other for other, _ in path):
            raise ProofBroken("a tree of signs", f"unit {unit} cannot be split there")
        else:
            path.append((unit, 1))
    raise ProofBroken("a tree of signs", "a half is missing")
