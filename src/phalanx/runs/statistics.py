"""Intervals over images: Clopper-Pearson for a rate, bootstrap for a mean or a difference.

They say how a figure would vary with other test images of the same kind. They are not the
confidence of a certificate, which is about noise and is fixed by alpha.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from phalanx.errors import ParameterError

Interval = tuple[float, float]
ROUNDS = 10_000
_CELLS = 1 << 21  # numbers drawn at a time: bounds the memory, whatever the number of images


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Two-sided exact interval of a binomial rate (Clopper and Pearson 1934).

    low solves P(X >= k | low) = (1 - level)/2 and high solves P(X <= k | high) = the same:
    low = BetaInv(t; k, n-k+1) and high = BetaInv(1-t; k+1, n-k), with t = (1 - level)/2.

    Raises:
        ParameterError: not 0 <= successes <= trials, trials < 1, or level outside (0, 1).

    >>> low, high = clopper_pearson(9, 10)
    >>> round(low, 4), round(high, 4)
    (0.555, 0.9975)
    >>> clopper_pearson(10, 10)[1]
    1.0
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ParameterError(
            f"{successes} successes of {trials} are no rate", why="0 <= successes <= trials, not 0"
        )
    tail = (1 - _checked(level)) / 2
    missed = trials - successes
    low = float(betaincinv(successes, missed + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, missed, 1 - tail)) if missed else 1.0
    return low, high


def bootstrap_mean(
    values: ArrayLike, level: float = 0.95, rounds: int = ROUNDS, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean (Efron 1979): images drawn with replacement.

    The interval is between the (1-level)/2 and (1+level)/2 quantiles of the means of
    ``rounds`` resamples. The same seed gives the same interval.

    Args:
        values: one finite number an image.
        level: coverage, in (0, 1).
        rounds: resamples, at least 1.
        seed: of the resampling.

    Raises:
        ParameterError: no values, non-finite values, or a parameter outside its range.

    >>> bootstrap_mean([1.0, 1.0, 1.0])
    (1.0, 1.0)
    >>> low, high = bootstrap_mean([0.0] * 50 + [1.0] * 50)
    >>> round(low, 2), round(high, 2)
    (0.4, 0.6)
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or not data.size or not np.isfinite(data).all() or rounds < 1:
        raise ParameterError(
            "a bootstrap needs one finite number an image and at least one round",
            why=f"it was given an array of shape {data.shape} and {rounds} rounds",
        )
    tail = (1 - _checked(level)) / 2
    means = _resampled_means(data, rounds, np.random.default_rng(seed))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _resampled_means(
    data: NDArray[np.float64], rounds: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    distinct, counts = np.unique(data, return_counts=True)
    if distinct.size == 1:
        return np.full(1, distinct[0])
    if distinct.size * 16 <= data.size:
        # How often each distinct value is drawn is multinomial: the same law, far fewer numbers.
        shares = counts / data.size
        return generator.multinomial(data.size, shares, size=rounds) @ distinct / data.size
    means = np.empty(rounds)
    block = max(1, _CELLS // data.size)
    for start in range(0, rounds, block):
        stop = min(rounds, start + block)
        drawn = generator.integers(0, data.size, size=(stop - start, data.size), dtype=np.int32)
        means[start:stop] = data[drawn].mean(axis=1)
    return means


def paired_difference(
    a: Sequence[float] | ArrayLike, b: Sequence[float] | ArrayLike, level: float = 0.95
) -> tuple[float, Interval]:
    """Mean of a - b over the same images, with its bootstrap interval over images.

    Raises:
        ParameterError: the two do not speak of equally many images, or of none.

    >>> paired_difference([1, 1, 0], [1, 0, 0])[0]
    0.3333333333333333
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (a, b))
    if first.shape != second.shape:
        raise ParameterError(
            f"{first.size} and {second.size} values cannot be paired",
            why="both need one value for each common image",
        )
    gap = first - second
    interval = bootstrap_mean(gap, level)
    return float(gap.mean()), interval


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise ParameterError(f"level {level} is outside (0, 1)", repair="0.95 is usual")
    return level
