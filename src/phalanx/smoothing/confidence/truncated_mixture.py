"""A bound that holds at every number of samples at once: stop whenever you like.

For a guess ``q`` the likelihood ratio ``(q/p)^S ((1-q)/(1-p))^(n-S)`` of ``S`` successes in ``n``
samples is, as n grows, a non-negative martingale where the true probability is ``p``, and a
supermartingale for every smaller one as long as ``q > p``. So is their mixture over q with a
Beta(1, b) density cut to ``(p, 1)``::

    W(p) = B(1+S, b+n-S) sf(p; 1+S, b+n-S) / (p^S (1-p)^(n-S) (1-p)^b / b)

with ``sf`` the upper tail of the Beta law. By Ville's inequality W(p) ever reaches 1/alpha with
probability at most alpha where the truth is at most p, so the probabilities it rejects are never
all true ones: the first p that is not rejected is a lower bound at every n (Robbins 1970; for
smoothing Voracek 2024, arXiv 2406.17830). A mixture that is not cut is two-sided and also grows
where the truth lies *below* p.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betaincc, betaincinv, betaln

from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.confidence.clopper_pearson import check_counts

SHAPE = 0.5
"""b of the density: near 1, where the probabilities of smoothing lie, it puts more weight."""

_SMALLEST = 1e-30
_FINEST = 1e-15
_GRID = 64
_KEPT = 1 << 16
"""Answers that are remembered: most inputs give votes that others gave before."""


def log_wealth(successes: ArrayLike, trials: ArrayLike, p: ArrayLike) -> NDArray[np.float64]:
    """``log W(p)`` of the module's formula, moved down by more than its rounding; broadcasts.

    Args:
        successes, trials: 0 <= S <= n.
        p: in (0, 1).

    Returns:
        float64; -inf where the tail underflows, which rejects nothing.

    >>> bool(log_wealth(100, 100, 0.9) > math.log(1000)), bool(log_wealth(90, 100, 0.9) > 0)
    (True, False)
    """
    s, n, p = (np.asarray(value, dtype=np.float64) for value in (successes, trials, p))
    missed = n - s
    with np.errstate(divide="ignore"):
        tail = np.log(betaincc(1 + s, SHAPE + missed, p))
    mixture = betaln(1 + s, SHAPE + missed) + tail + math.log(SHAPE) - SHAPE * np.log1p(-p)
    rounding = 1e-6 + 1e-12 * n
    return np.asarray(mixture - s * np.log(p) - missed * np.log1p(-p) - rounding)


@lru_cache(maxsize=_KEPT)
def fewest_successes(trials: int, p: float, wanted: float) -> int:
    """The fewest successes at which `log_wealth` reaches ``wanted``; one more than all if none.

    Every likelihood ratio of the mixture grows with the successes, and so does the wealth.

    >>> need = fewest_successes(100, 0.9, math.log(1000))
    >>> need, bool(log_wealth(need, 100, 0.9) >= math.log(1000))
    (100, True)
    """
    low, high = -1, trials + 1
    while high - low > 1:
        tried = np.unique(np.linspace(low + 1, high - 1, _GRID).astype(np.int64))
        enough = np.flatnonzero(log_wealth(tried, trials, p) >= wanted)
        first = int(enough[0]) if len(enough) else len(tried)
        high = int(tried[first]) if first < len(tried) else high
        low = int(tried[first - 1]) if first else low
    return high


@lru_cache(maxsize=_KEPT)
def _lower(successes: int, trials: int, alpha: float) -> float:
    """As `TruncatedMixture.lower`, of counts that were checked."""
    if successes == 0:
        return 0.0
    wanted = -math.log(min(alpha, math.exp(-SHAPE)))

    def beyond(p: float) -> float:
        return float(log_wealth(successes, trials, p)) - wanted

    if beyond(_SMALLEST) < 0:
        return 0.0
    # The bound of these counts alone says how far below their share the answer may lie.
    low = high = successes / trials * (1 - 1e-15)
    nearest = float(betaincinv(successes, trials - successes + 1, alpha))
    step = max(high - nearest, high / trials)
    while beyond(low) < 0:
        low, high, step = max(_SMALLEST, low - step), low, 2 * step
    if low == high:
        return low
    found, back = float(brentq(beyond, low, high, xtol=_FINEST, rtol=_FINEST)), _FINEST
    while beyond(found) < 0:  # what is returned is rejected itself, on which all rests
        found, back = max(low, found - back), 2 * back
    return found


class TruncatedMixture:
    """``lower`` and ``upper`` hold at every n together, each with probability 1 - alpha."""

    anytime = True

    def lower(self, successes: int, trials: int, alpha: float) -> float:
        """The first p that `log_wealth` does not reject; 0 when nothing succeeded.

        What is rejected has no gap: W could only rise through 1/alpha where
        ``n (S/n - p) < b p``, and there it is at most ``e^b``, see the test; a larger alpha is
        taken as ``e^-b``.

        >>> bound = TruncatedMixture()
        >>> round(bound.lower(1000, 1000, 0.001), 4), bound.lower(0, 10, 0.001)
        (0.992, 0.0)
        """
        check_counts(successes, trials, alpha)
        return _lower(int(successes), int(trials), alpha)

    def best_lower(
        self, successes: NDArray[np.int64], trials: NDArray[np.int64], alpha: float
    ) -> float:
        """The largest lower bound of any look; all of them hold together.

        Args:
            successes, trials: after each look, int ``(looks,)``.

        >>> bound, hits, seen = TruncatedMixture(), np.array([50, 90]), np.array([50, 100])
        >>> bound.best_lower(hits, seen, 0.001) == bound.lower(50, 50, 0.001)
        True
        """
        best = self.lower(int(successes[-1]), int(trials[-1]), alpha)
        while best > 0:  # where the end proves nothing, no earlier look is asked
            wealth = log_wealth(successes, trials, best)
            richest = int(np.argmax(wealth))
            found = self.lower(int(successes[richest]), int(trials[richest]), alpha)
            if found <= best:
                break
            best = found
        return best

    def upper(self, successes: int, trials: int, alpha: float) -> float:
        """One minus the lower bound of the failures, rounded up."""
        check_counts(successes, trials, alpha)
        return min(1.0, math.nextafter(1.0 - self.lower(trials - successes, trials, alpha), 2.0))


bounds.register("truncated-mixture")(TruncatedMixture())
