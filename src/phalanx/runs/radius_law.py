"""The radius law: what a success probability p_A makes of the certified radius at n samples.

The votes for the class are ``n_A ~ Bin(n, p_A)`` and the radius is
``sigma Phi^-1(BetaInv(alpha; n_A, n - n_A + 1))``, so the distribution of radii is known
exactly: a sum over counts. Over several inputs it is the mixture of theirs. Predictions and
estimates; the certificate is what was counted.

Source: Horvath, Mueller, Fischer, Vechev (ICLR 2022, arXiv 2106.06946), section 4; the radius
is that of Cohen, Rosenfeld and Kolter (2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri
from scipy.stats import binom

from phalanx.errors import ParameterError

Floats = NDArray[np.float64]

QUANTILES = (0.1, 0.5, 0.9)
_DEVIATIONS, _MORE = 9.0, 40
"""Counts further than this many standard deviations plus these have mass below 1e-12."""
_NOTHING = 1e-200
"""Of a smaller probability no vote is seen, and SciPy's law of the votes overflows."""


@dataclass(frozen=True)
class Spread:
    """A distribution of radii over inputs and votes, in input units.

    Attributes:
        none: share without a certificate (radius 0).
        mean: mean radius, those without counted as 0.
        low, median, high: its `QUANTILES`: the smallest radius reached with that probability.
    """

    none: float
    mean: float
    low: float
    median: float
    high: float


def radii_of_counts(n: int, *, sigma: float, alpha: float) -> Floats:
    """Certified radius of every count 0 .. n; 0 where the count allows no claim.

    Raises:
        ParameterError: n below 1, alpha outside (0, 1), or sigma that is not positive.

    >>> radii_of_counts(100, sigma=0.5, alpha=0.001).round(3)[[50, 70, 100]].tolist()
    [0.0, 0.055, 0.75]
    """
    if n < 1 or not 0 < alpha < 1 or not 0 < sigma < np.inf:
        raise ParameterError(f"no radius law for n={n!r}, alpha={alpha!r}, sigma={sigma!r}")
    table = np.zeros(n + 1)
    counts = np.arange(1, n + 1)
    bounds = betaincinv(counts, n - counts + 1, alpha)
    table[counts] = np.maximum(sigma * ndtri(bounds), 0.0)
    return table


def predicted(successes: ArrayLike, table: Floats) -> Spread:
    """Distribution of the radius over inputs of these success probabilities.

    Args:
        successes: p_A of every input, in [0, 1], any shape; each has the same weight.
        table: radius of every count, from `radii_of_counts`; its length fixes n.

    Raises:
        ParameterError: no probability, or one outside [0, 1].

    >>> table = np.array([0.0, 0.0, 2.0])
    >>> predicted([1.0, 0.0], table)
    Spread(none=0.5, mean=1.0, low=0.0, median=0.0, high=2.0)
    >>> round(predicted([0.5], table).none, 12)
    0.75
    """
    p = np.ravel(np.asarray(successes, np.float64))
    if not p.size or not bool(((p >= 0) & (p <= 1)).all()):
        raise ParameterError("the radius law needs success probabilities between 0 and 1")
    p = np.where(p < _NOTHING, 0.0, p)
    n = len(table) - 1
    mass = np.zeros(n + 1)
    values, repeats = np.unique(p, return_counts=True)
    for value, times in zip(values, repeats, strict=True):
        reach = _DEVIATIONS * np.sqrt(n * value * (1 - value)) + _MORE
        low, high = max(0, int(n * value - reach)), min(n, int(n * value + reach) + 1)
        mass[low : high + 1] += times * binom.pmf(np.arange(low, high + 1), n, value)
    return _spread(table, mass / mass.sum())


def observed(radii: ArrayLike) -> Spread:
    """The same summary of radii that were found.

    >>> observed([0.0, 1.0, 1.0, 2.0])
    Spread(none=0.25, mean=1.0, low=0.0, median=1.0, high=2.0)
    """
    values = np.ravel(np.asarray(radii, np.float64))
    if not values.size or not bool((values >= 0).all()):
        raise ParameterError("radii are numbers of 0 or more, at least one")
    return _spread(np.sort(values), np.full(values.size, 1 / values.size))


def share_quantiles(shares: ArrayLike, levels: Sequence[float] = QUANTILES) -> list[float]:
    """Quantiles of success probabilities over inputs: values that occur, never between two.

    >>> share_quantiles([0.9, 1.0, 0.4], [0.5])
    [0.9]
    """
    values = np.ravel(np.asarray(shares, np.float64))
    if not values.size or not bool(((values >= 0) & (values <= 1)).all()):
        raise ParameterError("shares are numbers between 0 and 1, at least one")
    return [float(v) for v in np.quantile(values, levels, method="inverted_cdf")]


def _spread(radii: Floats, mass: Floats) -> Spread:
    """Of radii in rising order and their probabilities."""
    reached = np.cumsum(mass)
    # What rounding takes from a cumulative sum must not move a quantile to the next count.
    at = np.minimum(np.searchsorted(reached, np.array(QUANTILES) - 1e-12), len(radii) - 1)
    low, median, high = (float(radii[k]) for k in at)
    return Spread(float(mass[radii <= 0].sum()), float(mass @ radii), low, median, high)
