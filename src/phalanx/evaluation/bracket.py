"""Where a margin falls below zero, between a radius that holds and one that does not."""

from __future__ import annotations

import math
from collections.abc import Callable

SHIFT, ORDER = 0.2, 2.0
"""How far from the line's zero to the middle a place is moved: kappa_1 and kappa_2 of the paper."""


class Bracket:
    """Radii between which the largest that holds is looked for, to a fineness.

    The ITP method (Oliveira & Takahashi, ACM TOMS 2021): a line between the margins says where to
    look, moved a little to the middle, and never so far from it that more than one step over those
    of a search by halves were needed: ``1 + ceil(log2((high - low) / fine))``, 15 for ``2**-14``,
    and at most one more where the last width exceeds ``fine`` by roundings alone. Where a margin is
    not known the middle is taken.

    Args:
        low: a radius that holds.
        high: one that does not.
        above: the margin at ``low``.
        below: the margin at ``high``, or minus infinity.
        fine: the width at which the search ends.

    >>> bracket, steps = Bracket(0.0, 1.0, 3.0, -27.0, 2.0**-14), 0
    >>> while bracket.open:
    ...     at = bracket.place()
    ...     bracket.cut(at, 3 - 30 * at**2, above=3 - 30 * at**2 > 0)
    ...     steps += 1
    >>> round(bracket.low, 3), steps < 10
    (0.316, True)
    """

    def __init__(self, low: float, high: float, above: float, below: float, fine: float) -> None:
        self.low, self.high = low, high
        self._above, self._below, self._fine, self._first = above, below, fine, high - low
        self._most = 1 + math.ceil(math.log2(max(1.0, (high - low) / fine)))
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


Margin = Callable[[float], tuple[bool, float]]
"""Whether a radius holds, and its margin."""


def climbed(holds: Margin, first: float, most: float, *, gap: float, fine: float) -> Bracket:
    """A bracket around a radius that is thought to hold: a sixteenth more, then four times as much.

    Radii far above the largest one that holds are thereby not tried; methods take longest there.

    Args:
        holds: asked of one radius after another, until one fails or ``most`` holds.
        first: above 0; with ``most`` that one comes first.
        most: the largest.
        gap: the margin at zero.
        fine: as of `Bracket`, which is closed where ``most`` holds.

    >>> bracket = climbed(lambda eps: (eps < 0.5, 0.5 - eps), 0.4, 1.0, gap=0.5, fine=1e-3)
    >>> round(bracket.low, 3), round(bracket.high, 3)
    (0.425, 0.525)
    """
    low, above, at, step = 0.0, gap, first, max(first / 16, fine)
    while True:
        good, margin = holds(at)
        if not good:
            return Bracket(low, at, above, margin, fine)
        low, above = at, margin
        if at >= most:
            return Bracket(low, low, above, -math.inf, fine)
        at, step = min(at + step, most), 4 * step
