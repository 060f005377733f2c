"""Where a margin falls below zero, between a radius that holds and one that does not."""

from __future__ import annotations

import math

SHIFT, ORDER = 0.2, 2.0
"""How far from the line's zero to the middle a place is moved: kappa_1 and kappa_2 of the paper."""


class Bracket:
    """Radii between which the largest that holds is looked for, to a fineness.

    The ITP method (Oliveira & Takahashi, ACM TOMS 2021): a line between the margins says where to
    look, moved a little to the middle, and never so far from it that more than one step over those
    of a search by halves were needed: ``1 + ceil(log2(high / fine))`` in all, 15 for ``2**-14``,
    and at most one more where the last width exceeds ``fine`` by roundings alone. Where a margin is
    not known the middle is taken.

    Args:
        high: a radius that does not hold; zero does.
        above: the margin at zero.
        below: the margin at ``high``, or minus infinity.
        fine: the width at which the search ends.

    >>> bracket, steps = Bracket(1.0, 3.0, -27.0, 2.0**-14), 0
    >>> while bracket.open:
    ...     at = bracket.place()
    ...     bracket.cut(at, 3 - 30 * at**2, above=3 - 30 * at**2 > 0)
    ...     steps += 1
    >>> round(bracket.low, 3), steps < 10
    (0.316, True)
    """

    def __init__(self, high: float, above: float, below: float, fine: float) -> None:
        self.low, self.high = 0.0, high
        self._above, self._below, self._fine, self._first = above, below, fine, high
        self._most = 1 + max(0, math.ceil(math.log2(high / fine)))
        self._steps = 0

    @property
    def open(self) -> bool:
        """Whether the ends are further apart than they should be."""
        return self.high - self.low > self._fine

    def place(self) -> float:
        """The radius to try."""
        half = (self.high - self.low) / 2
        middle = self.low + half
        if not self._above > 0 > self._below > -math.inf:
            return middle
        zero = self.low + 2 * half * self._above / (self._above - self._below)
        side, apart = math.copysign(1.0, middle - zero), abs(middle - zero)
        shift = SHIFT / self._first * (2 * half) ** ORDER
        moved = zero + side * shift if shift <= apart else middle
        room = self._fine / 2 * 2.0 ** (self._most - self._steps) - half
        return moved if abs(moved - middle) <= room else middle - side * max(room, 0.0)

    def cut(self, at: float, margin: float, *, above: bool) -> None:
        """A radius holds, or does not, with such a margin."""
        self._steps += 1
        if above:
            self.low, self._above = at, margin
        else:
            self.high, self._below = at, margin
