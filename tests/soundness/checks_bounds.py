"""What every registered confidence bound and radius rule must satisfy."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from statistics import NormalDist

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import betainc
from scipy.stats import binom

from phalanx.errors import ParameterError
from phalanx.noise.distributions.generalised_gaussian import usual_order
from phalanx.smoothing.confidence import Bound, Randomised
from phalanx.smoothing.radii import NORMS, Ball, RadiusAbove, RadiusRule

TRIALS = (1, 2, 10, 100, 1000)
ALPHAS = (0.5, 0.05, 0.001)
ROUNDING = 1e-9
MOST_PROBABILITIES = 300
LOOKS = 80


def coverage(bound: Bound) -> None:
    """The lower bound exceeds the true p with probability at most alpha, for every p.

    The failure rate is the binomial sum over the counts whose bound is too high, computed
    exactly; it can only peak just below one of the bounds, so those p are tried.
    """
    for trials in TRIALS:
        for alpha in ALPHAS:
            low = lowers(bound, trials, alpha)
            for p in _probabilities(low, below=True):
                rate = _probability_of(low > p, trials, p)
                assert rate <= alpha * (1 + ROUNDING), f"n={trials} p={p}: {rate} > {alpha}"


def upper_coverage(bound: Bound) -> None:
    """The upper bound falls short of the true p with probability at most alpha."""
    for trials in TRIALS:
        for alpha in ALPHAS:
            high = uppers(bound, trials, alpha)
            for p in _probabilities(high, below=False):
                rate = _probability_of(high < p, trials, p)
                assert rate <= alpha * (1 + ROUNDING), f"n={trials} p={p}: {rate} > {alpha}"


def range_and_order(bound: Bound) -> None:
    """0 <= lower <= k/n <= upper <= 1, lower < 1 and upper > 0 (no count proves a certainty)."""
    for trials in TRIALS:
        share = np.arange(trials + 1) / trials
        for alpha in ALPHAS:
            low, high = lowers(bound, trials, alpha), uppers(bound, trials, alpha)
            assert (low >= 0).all()
            assert (low <= share).all()
            assert (low < 1).all()
            assert (high >= share).all()
            assert (high <= 1).all()
            assert (high > 0).all()


def monotone(bound: Bound) -> None:
    """More successes never lower a bound; a smaller alpha never raises the lower one."""
    for trials in TRIALS:
        assert (np.diff(lowers(bound, trials, 0.01)) >= 0).all()
        assert (np.diff(uppers(bound, trials, 0.01)) >= 0).all()
        assert (lowers(bound, trials, 0.001) <= lowers(bound, trials, 0.01)).all()


def anytime_coverage(bound: Bound) -> None:
    """A bound that may be looked at after every sample is ever wrong at most alpha of the time.

    The probability that the lower bound exceeds p at *some* n up to `LOOKS` is computed exactly,
    by following the law of the successes and taking out what has gone wrong; the upper one by
    symmetry. One that is for a fixed n only says so.
    """
    if not bound.anytime:
        return
    alpha = 0.05
    low = [lowers(bound, n, alpha) for n in range(1, LOOKS + 1)]
    high = [uppers(bound, n, alpha) for n in range(1, LOOKS + 1)]
    for p in (0.02, 0.3, 0.5, 0.55, 0.8, 0.95, 0.99, 0.999):
        for ends, wrong in ((low, np.greater), (high, np.less)):
            rate = ever(p, [wrong(values, p) for values in ends])
            assert rate <= alpha * (1 + ROUNDING), f"p={p}: {rate} > {alpha}"


def randomised_coverage(bound: Bound) -> None:
    """A bound that draws a number is wrong with probability at most alpha over votes and number,
    and is never below its plain form.

    More than alpha wrong is told exactly: the bound falls as the number grows, so the numbers for
    which it exceeds p are those below a root.
    """
    if not isinstance(bound, Randomised):
        return
    for trials, alpha in ((1, 0.05), (10, 0.5), (10, 0.05), (100, 0.05), (100, 0.001)):
        for p in (0.02, 0.3, 0.5, 0.6, 0.9, 0.99, 0.999):
            law = binom.pmf(np.arange(trials + 1), trials, p)
            wrong = [_numbers_above(bound, k, trials, alpha, p) for k in range(trials + 1)]
            rate = float(law @ wrong)
            assert rate <= alpha * (1 + ROUNDING), f"n={trials} p={p}: {rate} > {alpha}"
    for u in (0.0, 0.2, 0.7, 1.0):
        assert (lowers(bound.drawn(u), 100, 0.01) >= lowers(bound, 100, 0.01)).all()
        assert (lowers(bound.drawn(u), 100, 0.01) < 1).all()


def _numbers_above(bound: Randomised, k: int, trials: int, alpha: float, p: float) -> float:
    """The share of drawn numbers whose lower bound exceeds p."""
    low, high = 0.0, 1.0
    if bound.drawn(0.0).lower(k, trials, alpha) <= p:
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2
        above = bound.drawn(middle).lower(k, trials, alpha) > p
        low, high = (middle, high) if above else (low, middle)
    return high


def ever(p: float, wrong: list[np.ndarray]) -> float:
    """Probability that the count of some n is among those that are wrong for it."""
    law, failed = np.ones(1), 0.0
    for bad in wrong:
        law = np.append(law * (1 - p), 0.0) + np.append(0.0, law * p)
        failed += float(law[bad].sum())
        law = np.where(bad, 0.0, law)
    return failed


def refuses_what_has_no_meaning(bound: Bound) -> None:
    """No number comes back for alpha outside (0, 1) or for impossible counts."""
    nan, inf = float("nan"), float("inf")
    for alpha in (nan, inf, -inf, -0.1, 0.0, 1.0, 1.5):
        _refused(bound, 5, 10, alpha)
    for successes, trials in ((0, 0), (0, -1), (-1, 10), (11, 10), (nan, 10), (5, nan)):
        _refused(bound, successes, trials, 0.01)


BOUND_CHECKS: list[Callable[[Bound], None]] = [
    coverage,
    upper_coverage,
    range_and_order,
    monotone,
    anytime_coverage,
    randomised_coverage,
    refuses_what_has_no_meaning,
]


def lowers(bound: Bound, trials: int, alpha: float) -> np.ndarray:
    """The lower bound of every count."""
    return np.array([bound.lower(k, trials, alpha) for k in range(trials + 1)])


def uppers(bound: Bound, trials: int, alpha: float) -> np.ndarray:
    """The upper bound of every count."""
    return np.array([bound.upper(k, trials, alpha) for k in range(trials + 1)])


def _probabilities(ends: np.ndarray, *, below: bool) -> np.ndarray:
    """Points just inside the bounds' values (thinned) and a grid."""
    inside = ends * (1 - 1e-12) if below else 1 - (1 - ends) * (1 - 1e-12)
    step = -(-len(inside) // MOST_PROBABILITIES)
    points = np.concatenate([inside[::step], inside[-20:], inside[:20], np.linspace(0, 1, 41)])
    return np.unique(points[(points > 0) & (points < 1)])


def _probability_of(counts: np.ndarray, trials: int, p: float) -> float:
    return float(binom.pmf(np.flatnonzero(counts), trials, p).sum())


def _refused(bound: Bound, successes: float, trials: float, alpha: float) -> None:
    for side in (bound.lower, bound.upper):
        try:
            value = side(successes, trials, alpha)
        except ParameterError:
            continue
        pytest.fail(f"({successes}, {trials}, {alpha}) gave {value}")


def never_above_a_linear_classifier(rule: RadiusRule) -> None:
    """No rule that knows p alone can exceed the distance at which a linear classifier changes.

    One along an axis changes where the noise of one value has quantile p, in every norm; one along
    the diagonal of two values where their sum has. For Gaussian noise and l2 that is
    ``sigma Phi^-1(p)``. The law of one value may depend on how many there are.
    """
    along_axis, of_the_sum = QUANTILES[rule.noise]
    along_axis_of = AXES.get(rule.noise, lambda p, dimension: along_axis(p))
    for sigma in (1e-3, 0.25, 1.0, 30.0):
        for p in (0.5 + 1e-9, 0.6, 0.9, 0.999, 1 - 1e-9, 1 - 1e-15):
            # What rounding of p itself may move the quantile by, where the law ends or is thin.
            diagonal = sigma * of_the_sum(p) * (1 + 1e-12)
            for dimension in (1, 2, 784):
                axis = sigma * along_axis_of(p, dimension) * (1 + 1e-12)
                for norm in NORMS:
                    assert 0 <= rule.radius(p, sigma, Ball(norm, dimension)) <= axis
            for norm, shrunk in (("l1", 1.0), ("l2", 2**-0.5), ("linf", 0.5)):
                assert rule.radius(p, sigma, Ball(norm, 2)) <= diagonal * shrunk


def larger_balls_have_smaller_radii(rule: RadiusRule) -> None:
    """A ball of the same radius is larger in l2 than in l1, in l_inf than in l2, and in more
    dimensions."""
    for p in (0.51, 0.9, 0.9999):
        for dimensions in ((1, 2, 10), (784, 3072, 150528)):
            found = [[rule.radius(p, 0.5, Ball(norm, d)) for d in dimensions] for norm in NORMS]
            assert (np.diff(found, axis=0) <= 0).all()
            assert (np.diff(found, axis=1) <= 0).all()


def _sum_of_two_laplace(p: float) -> float:
    """The quantile of the sum of two, whose upper tail is ``(2 + s) e^-s / 4`` at scale 1."""
    tail = lambda s: (2 + s) * math.exp(-s) / 4 - (1 - p)  # noqa: E731
    return math.sqrt(0.5) * brentq(tail, 0.0, 100.0, xtol=1e-14)


@cache
def _value_of_usual_order(p: float, dimension: int) -> float:
    """The quantile of one value of generalised Gaussian noise: a length times a cosine."""
    order = usual_order(dimension)
    if order == 0:
        return NormalDist().inv_cdf(p)
    shape, half = dimension / 2 - order, (dimension - 1) / 2
    unit = math.sqrt(dimension / shape)

    def beyond(x: float) -> float:
        """Its upper tail at x: where the cosine is above ``x / (unit sqrt t)``."""
        first = (x / unit) ** 2

        def part(root: float) -> float:
            t = first + root**2
            cosine = min(math.sqrt(first / t), 1.0)
            density = math.exp((shape - 1) * math.log(t) - t - math.lgamma(shape))
            return density * betainc(half, half, (1 - cosine) / 2) * 2 * root

        return quad(part, 0, math.sqrt(60.0), limit=200, epsabs=0, epsrel=1e-12)[0]

    # The tail has digits where p is near 1; what it is there may be rounded as p is.
    return brentq(lambda x: beyond(x) - (1 - p), 0.0, 20.0, xtol=1e-15)


Quantile = Callable[[float], float]
AXES: dict[str, Callable[[float, int], float]] = {"generalised-gaussian": _value_of_usual_order}
"""Of one value, where its law depends on the number of values."""
QUANTILES: dict[str, tuple[Quantile, Quantile]] = {
    "gaussian": (NormalDist().inv_cdf, lambda p: math.sqrt(2) * NormalDist().inv_cdf(p)),
    "uniform": (
        lambda p: math.sqrt(3) * (2 * p - 1),
        lambda p: 2 * math.sqrt(3) * (1 - math.sqrt(2 * (1 - p))),
    ),
    "laplace": (lambda p: -math.sqrt(0.5) * math.log(2 * (1 - p)), _sum_of_two_laplace),
    # Of two values the usual order is 0.
    "generalised-gaussian": (
        NormalDist().inv_cdf,
        lambda p: math.sqrt(2) * NormalDist().inv_cdf(p),
    ),
}
"""By noise of standard deviation 1: of one value, and of the sum of two."""


def zero_up_to_the_threshold(rule: RadiusRule) -> None:
    """What certifies nothing has radius zero; beyond, the radius grows with p and sigma."""
    for ball in (Ball(norm, 784) for norm in NORMS):
        for p in np.linspace(0, rule.threshold, 11):
            assert rule.radius(float(p), 0.5, ball) == 0.0
        above = np.linspace(rule.threshold, 1 - 1e-9, 200).tolist()
        assert (np.diff([rule.radius(p, 0.5, ball) for p in above]) >= 0).all()
        assert rule.radius(0.9, 0.5, ball) < rule.radius(0.9, 1.0, ball)


def refuses_bad_noise_and_probabilities(rule: RadiusRule) -> None:
    """No radius for a sigma that is no noise level or a p that is no probability below 1."""
    nan, inf = float("nan"), float("inf")
    for p, sigma in (
        *((0.9, s) for s in (nan, inf, -inf, -0.25, 0.0)),
        *((p, 0.5) for p in (nan, inf, -0.1, 1.0, 1.5)),
    ):
        try:
            value = rule.radius(p, sigma, Ball("l1"))
        except ParameterError:
            continue
        pytest.fail(f"p={p} sigma={sigma} gave a radius of {value}")


def other_thresholds(rule: RadiusRule) -> None:
    """A rule that knows where p falls to another value agrees with half-spaces there too.

    One along an axis has its quantile for a threshold t moved by as much as its input; along the
    diagonal of two values likewise. Nothing is certified up to t, and at one half it is the rule.
    """
    if not isinstance(rule, RadiusAbove):
        return
    along_axis, of_the_sum = QUANTILES[rule.noise]
    for t in (0.5, 1 / 3, 0.25, 0.01):
        moved = rule.above(t)
        zero_up_to_the_threshold(moved)
        refuses_bad_noise_and_probabilities(moved)
        for p in (t + 1e-9, 0.4, 0.6, 0.999):
            axis, diagonal = (
                (_signed(q, p) - _signed(q, t)) * (1 + 1e-12) + 1e-13
                for q in (along_axis, of_the_sum)
            )
            for norm, shrunk in (("l1", 1.0), ("l2", 2**-0.5), ("linf", 0.5)):
                radius = moved.radius(p, 1.0, Ball(norm, 2))
                assert radius <= max(axis, 0.0)
                assert radius <= max(diagonal * shrunk, 0.0)
            if p > 0.5:
                two = Ball("l2", 2)
                assert moved.radius(p, 1.0, two) >= rule.radius(p, 1.0, two) * (1 - 1e-12)
    with pytest.raises(ParameterError):
        rule.above(0.6)


def _signed(quantile: Quantile, p: float) -> float:
    """The quantile of a symmetric law, which is given from one half on."""
    return quantile(p) if p >= 0.5 else -quantile(1 - p)


RADIUS_CHECKS: list[Callable[[RadiusRule], None]] = [
    never_above_a_linear_classifier,
    larger_balls_have_smaller_radii,
    zero_up_to_the_threshold,
    refuses_bad_noise_and_probabilities,
    other_thresholds,
]
