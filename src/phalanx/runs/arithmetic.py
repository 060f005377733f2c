"""The certificate's arithmetic a second time, sharing no code with ``phalanx.smoothing``.

Cohen, Rosenfeld and Kolter 2019: of n noisy votes n_A are for class c;
p_lower = BetaInv(alpha; n_A, n-n_A+1) is the one-sided Clopper-Pearson bound; the radius is
sigma * Phi^-1(p_lower) where p_lower > 1/2. Here the bound is found by Newton's method on the
binomial tail, which is summed term by term, and Phi^-1 is the standard library's.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import factorial, log, pi
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from phalanx.errors import ParameterError

_NORMAL = NormalDist()
_NEWTON_STEPS = 100


def lower_limits(pairs: Iterable[tuple[int, int]], alpha: float) -> dict[tuple[int, int], float]:
    """One-sided Clopper-Pearson lower bounds, for many (n_A, n) at once.

    The bound is the largest p with P(X >= n_A | n, p) <= alpha; 0 where n_A is 0.

    Raises:
        ParameterError: alpha outside (0, 1), or not 0 <= n_A <= n with n >= 1.

    >>> limits = lower_limits([(0, 100), (100, 100)], 0.001)
    >>> limits[0, 100], abs(limits[100, 100] - 0.001 ** (1 / 100)) < 1e-15
    (0.0, True)
    """
    if not 0 < alpha < 1:
        raise ParameterError(f"alpha {alpha} is outside (0, 1)")
    known = sorted(set(pairs))
    if any(not 0 <= n_a <= n or n < 1 for n_a, n in known):
        raise ParameterError("a bound needs 0 <= n_A <= n and n >= 1")
    # No vote bounds nothing; all votes have the closed form P(X >= n | p) = p^n.
    limits = {(n_a, n): alpha ** (1 / n) if n_a == n else 0.0 for n_a, n in known}
    voted = [(n_a, n) for n_a, n in known if 0 < n_a < n]
    if voted:
        hits, trials = np.array(voted, dtype=np.float64).T
        limits.update(zip(voted, _solve(hits, trials, alpha).tolist(), strict=True))
    return limits


def lower_limit(n_a: int, n: int, alpha: float) -> float:
    """The bound of `lower_limits` for one count.

    >>> round(lower_limit(99_999, 100_000, 0.001), 12)
    0.999907669666
    """
    return lower_limits([(n_a, n)], alpha)[n_a, n]


def radius_of(p_lower: float, sigma: float) -> float:
    """sigma * Phi^-1(p_lower), in the unit of the input; 0 where p_lower <= 1/2 (abstain).

    >>> radius_of(0.5, 0.25), round(radius_of(0.99, 0.25), 6)
    (0.0, 0.581587)
    """
    if p_lower <= 0.5:
        return 0.0
    return float("inf") if p_lower >= 1 else sigma * _NORMAL.inv_cdf(p_lower)


def float32_level(sigma: float) -> float:
    """What sigma certainly is once noise is added in float32: the smaller of it and its float32.

    >>> float32_level(0.5), float32_level(0.12), float32_level(0.1)
    (0.5, 0.11999999731779099, 0.1)
    """
    with np.errstate(over="ignore"):
        return min(sigma, float(np.float32(sigma)))


def largest_radius(n: int, alpha: float, sigma: float) -> float:
    """What n unanimous votes give: sigma * Phi^-1(alpha^(1/n)).

    >>> round(largest_radius(100_000, 0.001, 1.0), 4)
    3.8115
    """
    return radius_of(lower_limit(n, n, alpha), sigma)


def _solve(
    hits: NDArray[np.float64], trials: NDArray[np.float64], alpha: float
) -> NDArray[np.float64]:
    """Newton's method on log P(X >= n_A | p) = log alpha, for counts with 0 < n_A < n.

    The tail is the distribution function of a Beta law, whose density is log-concave, so
    log P is concave in p (Prekopa): Newton from a point below the root rises and never passes
    it. Hoeffding's inequality, and P(X >= k) <= C(n, k) p^k, give such points.
    """
    hoeffding = hits / trials - np.sqrt(-np.log(alpha) / (2 * trials))
    union = np.exp((np.log(alpha) - _log_binomial(hits, trials)) / hits)
    p = np.maximum(hoeffding, union)
    for _ in range(_NEWTON_STEPS):
        series = tail_over_mass(hits, trials, p)
        excess = log_mass(hits, trials, p) + np.log(series) - np.log(alpha)
        step = -excess * p * series / hits  # d log P / dp = n_A / (p * series)
        p = p + step
        if np.all(np.abs(step) < 1e-15 * p):
            break
    return p


def tail_over_mass(
    hits: NDArray[np.float64], trials: NDArray[np.float64], p: NDArray[np.float64]
) -> NDArray[np.float64]:
    """P(X >= k) / P(X = k): positive terms whose ratios fall below 1, since p < k/n."""
    odds = p / (1 - p)
    term, total = np.ones_like(p), np.ones_like(p)
    for j in range(int(np.max(trials - hits))):
        term = term * odds * np.maximum(trials - hits - j, 0) / (hits + j + 1)
        total += term
        if np.all(term < 1e-17 * total):
            break
    return total


def log_mass(
    hits: NDArray[np.float64], trials: NDArray[np.float64], p: NDArray[np.float64]
) -> NDArray[np.float64]:
    """log P(X = k), 0 < k < n, without cancellation between large logarithms (Loader 2000)."""
    missed = trials - hits
    return (
        _log_binomial_scale(hits, trials)
        - _deviance(hits, trials * p)
        - _deviance(missed, trials * (1 - p))
    )


def _log_binomial(hits: NDArray[np.float64], trials: NDArray[np.float64]) -> NDArray[np.float64]:
    missed = trials - hits
    entropy = hits * np.log(trials / hits) + missed * np.log(trials / missed)
    return _log_binomial_scale(hits, trials) + entropy


def _log_binomial_scale(
    hits: NDArray[np.float64], trials: NDArray[np.float64]
) -> NDArray[np.float64]:
    """log P(X = k) at p = k/n: Stirling's formula with its correction terms."""
    missed = trials - hits
    correction = _stirling(trials) - _stirling(hits) - _stirling(missed)
    return correction + 0.5 * np.log(trials / (2 * np.pi * hits * missed))


def _deviance(count: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """count * log(count / mean) + mean - count, exact where the two are close."""
    gap = count - mean
    return count * np.log1p(gap / mean) - gap


def _stirling(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """log x! minus Stirling's formula; its series from 16 on (error below 1e-15)."""
    series = np.zeros_like(x)
    for coefficient in (1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12):
        series = series / (x * x) + coefficient
    small = np.array([_stirling_small(int(v)) if v < 16 else 0.0 for v in x])
    return np.where(x < 16, small, series / x)


def _stirling_small(x: int) -> float:
    return log(factorial(x)) - (x + 0.5) * log(x) + x - 0.5 * log(2 * pi)
