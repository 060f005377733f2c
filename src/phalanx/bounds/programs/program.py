"""`Program`, one sparse linear program, and the draft it is written in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, eye_array, vstack

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Forms:
    """Affine functions of a program's columns: ``matrix v + offset``.

    Attributes:
        matrix: ``(n, columns)``; columns that came later have coefficient zero.
        offset: ``(n,)``.

    >>> both = Forms.of_columns(np.array([1, 0]), 2).times(np.array([2.0, 3.0]))
    >>> (both.plus(Forms.constant(np.array([0.0, 1.0]))).at(np.array([5.0, 7.0]))).tolist()
    [14.0, 16.0]
    """

    matrix: csr_array
    offset: Floats

    def __len__(self) -> int:
        return len(self.offset)

    @classmethod
    def of_columns(cls, columns: Indices, count: int) -> Forms:
        """The columns themselves; ``count`` is how many there are in all."""
        size = len(columns)
        parts = (np.ones(size), np.asarray(columns), np.arange(size + 1))
        return cls(csr_array(parts, shape=(size, count)), np.zeros(size))

    @classmethod
    def constant(cls, values: Floats) -> Forms:
        """Numbers."""
        return cls(csr_array((len(values), 0)), np.asarray(values, dtype=np.float64))

    def take(self, entries: Indices | Mask) -> Forms:
        """Some of them."""
        return Forms(self.matrix[entries], self.offset[entries])

    def times(self, factors: Floats) -> Forms:
        """Each times its own factor."""
        scaled = self.matrix.copy()
        scaled.data = scaled.data * np.repeat(factors, np.diff(scaled.indptr))
        return Forms(scaled, self.offset * factors)

    def plus(self, other: Forms) -> Forms:
        """Sums, one by one."""
        count = max(self.matrix.shape[1], other.matrix.shape[1])
        matrix = csr_array(widened(self.matrix, count) + widened(other.matrix, count))
        return Forms(matrix, self.offset + other.offset)

    def minus(self, other: Forms) -> Forms:
        """Differences, one by one."""
        return self.plus(other.times(np.full(len(other), -1.0)))

    def through(self, weights: csr_array) -> Forms:
        """Their images under a matrix ``(m, n)``."""
        return Forms(csr_array(weights @ self.matrix), np.asarray(weights @ self.offset))

    def at(self, point: Floats) -> Floats:
        """Their values ``(n,)`` where the columns are ``point``, which may have more of them."""
        found = self.matrix @ point[: self.matrix.shape[1]] + self.offset
        return np.asarray(found, dtype=np.float64)


def widened(matrix: csr_array, count: int) -> csr_array:
    """The same numbers in a matrix of ``count`` columns."""
    parts = (matrix.data, matrix.indices, matrix.indptr)
    return csr_array(parts, shape=(matrix.shape[0], count))


def stacked(parts: list[Forms]) -> Forms:
    """One after the other."""
    count = max(part.matrix.shape[1] for part in parts)
    matrix = vstack([widened(part.matrix, count) for part in parts], format="csr")
    return Forms(csr_array(matrix), np.concatenate([part.offset for part in parts]))


@dataclass(frozen=True, eq=False)
class Program:
    """``low <= matrix v <= high`` and ``lower <= v <= upper``.

    Attributes:
        matrix: ``(rows, columns)``.
        low, high: ``(rows,)``; infinite where a row has one side.
        lower, upper: ``(columns,)``.
        whole: columns that must be whole numbers.
        asked: the bounds of columns that are asked of a solver; the others follow from the rest,
            and what a solver makes of them is not wanted. Where they do not, the answer is looser.
    """

    matrix: csc_array
    low: Floats
    high: Floats
    lower: Floats
    upper: Floats
    whole: Mask
    asked: tuple[Floats, Floats]

    @property
    def columns(self) -> int:
        """How many there are."""
        return len(self.lower)

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.low)

    def with_rows(self, matrix: csr_array, low: Floats, high: Floats) -> Program:
        """With more rows behind those there are."""
        both = csc_array(vstack([self.matrix, widened(matrix, self.columns)], format="csc"))
        sides = np.concatenate([self.low, low]), np.concatenate([self.high, high])
        return replace(self, matrix=both, low=sides[0], high=sides[1])

    def within(self, lower: Floats, upper: Floats) -> Program:
        """With these bounds of columns, all of them asked of a solver."""
        return replace(self, lower=lower, upper=upper, asked=(lower, upper))

    def relaxed(self) -> Program:
        """Without whole numbers."""
        return replace(self, whole=np.zeros(self.columns, dtype=bool))

    def holds(self, point: Floats, slack: float = 1e-6) -> bool:
        """Whether a point ``(columns,)`` satisfies everything up to ``slack``; NaN does not."""
        image = self.matrix @ point
        rows = (image >= self.low - slack) & (image <= self.high + slack)
        columns = (point >= self.lower - slack) & (point <= self.upper + slack)
        whole = np.abs(point - np.round(point))[self.whole] <= slack
        return bool(rows.all() and columns.all() and whole.all())


class Draft:
    """A program in the making: columns and rows are added by whole arrays."""

    def __init__(self) -> None:
        self.lower: Floats = np.empty(0)
        self.upper: Floats = np.empty(0)
        self._asked: tuple[Floats, Floats] = (np.empty(0), np.empty(0))
        self._whole: list[Mask] = []
        self._blocks: list[csr_array] = []
        self._low: list[Floats] = []
        self._high: list[Floats] = []
        self.rows = 0

    @property
    def columns(self) -> int:
        """How many there are so far."""
        return len(self.lower)

    def add_columns(
        self,
        lower: Floats,
        upper: Floats,
        *,
        whole: bool = False,
        asked: tuple[Floats, Floats] | None = None,
    ) -> Indices:
        """New columns between these bounds; their numbers. ``asked``: see `Program`."""
        before = self.columns
        low, high = (lower, upper) if asked is None else asked
        self.lower, self.upper = np.append(self.lower, lower), np.append(self.upper, upper)
        self._asked = np.append(self._asked[0], low), np.append(self._asked[1], high)
        self._whole.append(np.full(len(lower), whole))
        return np.arange(before, self.columns)

    def cut_columns(self, columns: Indices, lower: Floats, upper: Floats, *, ask: bool) -> None:
        """Bounds of columns there are, intersected; crossed by a hair, they change places."""
        low = np.maximum(self.lower[columns], lower)
        high = np.minimum(self.upper[columns], upper)
        self.lower[columns], self.upper[columns] = np.minimum(low, high), np.maximum(low, high)
        if ask:
            self._asked[0][columns] = self.lower[columns]
            self._asked[1][columns] = self.upper[columns]

    def forms(self, columns: Indices) -> Forms:
        """These columns as forms."""
        return Forms.of_columns(columns, self.columns)

    def between(self, forms: Forms, low: Floats | float, high: Floats | float) -> Indices:
        """Rows ``low <= forms <= high``; their numbers."""
        size, before = len(forms), self.rows
        self._blocks.append(forms.matrix)
        self._low.append(np.broadcast_to(low, size) - forms.offset)
        self._high.append(np.broadcast_to(high, size) - forms.offset)
        self.rows += size
        return np.arange(before, self.rows)

    def program(self) -> Program:
        """What has been written."""
        blocks = [widened(block, self.columns) for block in self._blocks if block.shape[0]]
        empty = csc_array((0, self.columns))
        return Program(
            csc_array(vstack(blocks, format="csc")) if blocks else empty,
            np.concatenate([np.empty(0), *self._low]),
            np.concatenate([np.empty(0), *self._high]),
            self.lower.copy(),
            self.upper.copy(),
            np.concatenate([np.empty(0, dtype=bool), *self._whole]),
            (self._asked[0].copy(), self._asked[1].copy()),
        )


def identity(size: int) -> csr_array:
    """The matrix that changes nothing."""
    return csr_array(eye_array(size))
