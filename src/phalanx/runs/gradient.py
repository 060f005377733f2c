"""The gradient certificate a second time, sharing no code with ``phalanx.smoothing``.

The worst set of the noise is found by sorting a fine grid instead of by its two ends, and the best
rate of Chernoff's inequality by golden section instead of on a grid; both agree with the code that
made the certificate to about 1e-4 of the slope, which is what `agrees` allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from phalanx.runs.arithmetic import radius_of
from phalanx.runs.schema import SlopeRecord

_NORMAL = NormalDist()
_STEP, _REACH = 2e-3, 9.0
_Z = np.arange(-_REACH + _STEP / 2, _REACH, _STEP)
_MASS = np.exp(-_Z * _Z / 2) * _STEP / math.sqrt(2 * math.pi)
_GOLDEN = (math.sqrt(5) - 1) / 2
_SMALLEST, _LARGEST = 1e-5, 5.0
_ROUNDS = 40
_MORE, _LESS = 1e-6, 1e-3
"""How much more and less than the radius computed here a stored one may be, relative to it."""


def agrees(stored: float, computed: float) -> bool:
    """Whether a stored radius is the one computed here, moved down by rounding at most.

    >>> agrees(0.9999, 1.0), agrees(1.001, 1.0), agrees(0.9, 1.0)
    (True, False, False)
    """
    return computed * (1 - _LESS) <= stored <= computed * (1 + _MORE)


def of_votes(noise: SlopeRecord, n_a: int | None, n: int | None) -> bool:
    """Whether two halves of n rows, of which n_a were left out, can have these products."""
    largest = math.sqrt(max(0.0, noise.norm1)) * math.sqrt(max(0.0, noise.norm2))
    possible = min(noise.norm1, noise.norm2) >= 0 and abs(noise.product) <= largest * (1 + 1e-9)
    halved = min(noise.n1, noise.n2) >= 1 and noise.n1 + noise.n2 == n
    return possible and halved and (n_a != n or noise.norm1 == noise.norm2 == 0)


def gradient_radius(noise: SlopeRecord, p_lower: float, alpha: float, sigma: float) -> float:
    """The radius of a probability and two halves of the noise; 0 where p_lower <= 1/2.

    Args:
        alpha: the share of the slope.
        sigma: in the unit of the input.
    """
    if p_lower <= 0.5:
        return 0.0
    q = 1 - p_lower
    slope = slope_limit(noise, q, alpha)
    low, high = _ends(q, slope)

    def lost(radius: float) -> float:
        return _NORMAL.cdf(radius - high) + _NORMAL.cdf(low - radius) - 0.5

    return max(radius_of(p_lower, sigma), sigma * _root(lost, 0.0, high))


def slope_limit(noise: SlopeRecord, q: float, alpha: float) -> float:
    """The largest b with ``b^2 - b D1 <= <Y1, Y2> + |Y1| D2`` (two shares of alpha)."""
    first, second = (_deviation(q, n, alpha / 2) for n in (noise.n1, noise.n2))
    norm = math.sqrt(noise.norm1) / noise.n1
    right = noise.product / (noise.n1 * noise.n2) + norm * second
    return (first + math.sqrt(max(0.0, first * first + 4 * right))) / 2


@lru_cache(maxsize=4096)
def _deviation(q: float, n: int, alpha: float) -> float:
    """The smallest of ``(psi(t) + log(1/alpha)/n) / t``, by golden section in log t."""
    nats = -math.log(alpha) / n

    def above(log_rate: float) -> float:
        rate = math.exp(log_rate)
        return (_most(rate, q) + nats) / rate

    low, high = math.log(_SMALLEST), math.log(_LARGEST)
    for _ in range(_ROUNDS):
        width = _GOLDEN * (high - low)
        left, right = high - width, low + width
        low, high = (low, right) if above(left) < above(right) else (left, high)
    return above((low + high) / 2)


def _most(rate: float, q: float) -> float:
    """``E[(exp(-t z) - 1 + t z) 1_B]`` for the worst set B of mass q: the largest values first."""
    values = np.expm1(-rate * _Z) + rate * _Z
    order = np.argsort(-values)
    mass = np.cumsum(_MASS[order])
    last = int(np.searchsorted(mass, q))
    whole = float(np.dot(values[order[:last]], _MASS[order[:last]]))
    if last == len(order):
        return whole
    return whole + float(values[order[last]]) * (q - (float(mass[last - 1]) if last else 0.0))


def _ends(q: float, slope: float) -> tuple[float, float]:
    """``(c1, c2)`` with mass q outside and ``phi(c2) - phi(c1)`` the slope, or (-inf, Phi^-1)."""

    def high(low: float) -> float:
        return -_NORMAL.inv_cdf(q - _NORMAL.cdf(low))

    def missing(low: float) -> float:
        return slope - (_NORMAL.pdf(high(low)) - _NORMAL.pdf(low))

    if slope >= _NORMAL.pdf(_NORMAL.inv_cdf(q)):
        return -math.inf, -_NORMAL.inv_cdf(q)
    low = _root(missing, -37.0, _NORMAL.inv_cdf(q / 2))
    return low, high(low)


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a function turns from negative to positive."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return low
