"""Passes of few sizes, so that an answer depends on its row and not on the company it is in.

A library may add in another order where a batch has another number of rows. So passes have one
number of rows, the last one padded; and on a CPU also those smaller ones, powers of two, of which a
trial showed that they give a row the same bits: fewer rows are then padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

LEAST_ROWS = 16
"""Below, libraries take other ways through a product (a single row is a vector)."""
SPARE = 4
"""A pass is cut in two where that spares more than every fourth row of it."""


class Ladder:
    """The sizes of passes.

    Args:
        rows: of a full pass, always allowed.
        alike: whether passes of a smaller size give a row the same bits; asked once a size.

    >>> ladder = Ladder(256, lambda size: True)
    >>> list(ladder.cuts(150)), list(ladder.cuts(250)), list(ladder.cuts(3))
    ([(0, 128), (128, 32)], [(0, 256)], [(0, 16)])
    >>> list(Ladder(64, lambda size: False).cuts(65))
    [(0, 64), (64, 64)]
    """

    def __init__(self, rows: int, alike: Callable[[int], bool]) -> None:
        self.rows, self._alike = rows, alike
        self._known: dict[int, bool] = {}

    def cuts(self, count: int) -> Iterator[tuple[int, int]]:
        """Where each pass of ``count`` rows begins, and how many rows it has with its padding."""
        first = 0
        while first < count:
            size = self._size(count - first)
            yield first, size
            first += size

    def _size(self, left: int) -> int:
        """Rows of the next pass, with ``left`` rows to go."""
        if left >= self.rows:
            return self.rows
        least = -(-left // LEAST_ROWS) * LEAST_ROWS  # what several passes would come to
        whole, size = 0, LEAST_ROWS
        while size < self.rows:
            fits = size <= left or (size - least) * SPARE <= size
            if fits and self._allowed(size):
                if size >= left:
                    return size
                whole = size
            size *= 2
        return self.rows if not whole or (self.rows - least) * SPARE <= self.rows else whole

    def _allowed(self, size: int) -> bool:
        if size not in self._known:
            self._known[size] = self._alike(size)
        return self._known[size]


def in_passes(
    ask: Callable[[Tensor, Sequence[int]], Tensor], x: Tensor, keys: Sequence[int], ladder: Ladder
) -> Tensor:
    """``ask`` of all rows ``(B, ...)``, so many at a time: ``(S, B, C)``."""
    found = []
    for first, rows in ladder.cuts(len(x)):
        some, some_keys = x[first : first + rows], keys[first : first + rows]
        missing = rows - len(some)
        shown = ask(padded(some, rows), [*some_keys, *[0] * missing])
        found.append(shown[:, : len(some)] if missing else shown)
    return found[0] if len(found) == 1 else torch.cat(found, 1)


def padded(x: Tensor, rows: int) -> Tensor:
    """``x`` with copies of its first row behind it, ``rows`` in all."""
    missing = rows - len(x)
    return x if not missing else torch.cat([x, x[:1].expand(missing, *x.shape[1:])])
