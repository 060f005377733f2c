"""Sets ``[lo, hi]`` of real numbers, elementwise in arrays.

Their rounding is not directed: `certify.py` charges it as a whole, and says how much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """All numbers from ``lo`` to ``hi``, float64 arrays of one shape.

    >>> one, two = Interval.hull(np.array(1.0), np.array(-1.0)), Interval.hull(3.0, 2.0)
    >>> product = one * two
    >>> float(product.lo), float(product.hi), float(product.radius)
    (-3.0, 3.0, 3.0)
    """

    lo: Floats
    hi: Floats

    @classmethod
    def hull(cls, *values: Floats | float) -> Interval:
        """The smallest that holds the values."""
        low = high = np.asarray(values[0], dtype=np.float64)
        for value in values[1:]:
            low, high = np.minimum(low, value), np.maximum(high, value)
        return cls(np.asarray(low), np.asarray(high))

    @property
    def middle(self) -> Floats:
        """The centre."""
        return (self.lo + self.hi) / 2

    @property
    def radius(self) -> Floats:
        """Half the width."""
        return (self.hi - self.lo) / 2

    def __add__(self, other: Interval | Floats | float) -> Interval:
        o = _interval(other)
        return Interval(self.lo + o.lo, self.hi + o.hi)

    def __sub__(self, other: Interval | Floats | float) -> Interval:
        o = _interval(other)
        return Interval(self.lo - o.hi, self.hi - o.lo)

    def __mul__(self, other: Interval | Floats | float) -> Interval:
        o = _interval(other)
        return Interval.hull(self.lo * o.lo, self.lo * o.hi, self.hi * o.lo, self.hi * o.hi)

    def __truediv__(self, other: Interval | Floats | float) -> Interval:
        """By positive numbers only."""
        o = _interval(other)
        return Interval.hull(self.lo / o.lo, self.lo / o.hi, self.hi / o.lo, self.hi / o.hi)

    def widened(self, by: Floats) -> Interval:
        """Larger by ``by >= 0`` on both sides."""
        return Interval(self.lo - by, self.hi + by)

    def rising(self, function: Callable[[Floats], Floats]) -> Interval:
        """The image under a function that never falls."""
        return Interval(function(self.lo), function(self.hi))

    def peaked(self, function: Callable[[Floats], Floats], peak: float) -> Interval:
        """The image under a function that rises up to ``peak`` and falls behind it."""
        low, high = function(self.lo), function(self.hi)
        within = function(np.clip(np.asarray(peak), self.lo, self.hi))
        return Interval(np.minimum(low, high), np.maximum(np.maximum(low, high), within))


def _interval(value: Interval | Floats | float) -> Interval:
    if isinstance(value, Interval):
        return value
    array = np.asarray(value, dtype=np.float64)
    return Interval(array, array)
