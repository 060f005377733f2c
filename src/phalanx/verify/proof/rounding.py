"""What rounding to nearest costs in float64, for numpy (Higham 2002, chapters 2 and 3).

A sum of k products is off by at most ``charge(k)`` times the sum of their absolute values, in
whatever order it is added up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HALF_ULP = 2.0**-53
TINY = 1e-280
"""More than all products below the normal range can lose together."""
ROOM = 1.01
"""Covers that the charges are added up in the same arithmetic."""


def charge(terms: int) -> float:
    """``k u / (1 - k u)`` for one more than k, and a little more; infinite where k is absurd.

    >>> 4 * HALF_ULP < charge(3) < 4.1 * HALF_ULP
    True
    """
    lost = (terms + 1) * HALF_ULP
    return ROOM * lost / (1 - lost) if terms >= 0 and lost < 0.01 else float("inf")


def below(x: Array) -> Array:
    """The next numbers below."""
    return np.nextafter(x, -np.inf)


def above(x: Array) -> Array:
    """The next numbers above."""
    return np.nextafter(x, np.inf)
