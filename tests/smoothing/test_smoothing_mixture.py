"""The anytime bound against direct integration, and what would be wrong with its neighbours."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.confidence.clopper_pearson import ClopperPearson
from phalanx.smoothing.confidence.truncated_mixture import SHAPE, TruncatedMixture, log_wealth

COUNTS = [(1, 1), (3, 5), (60, 80), (99, 100), (100, 100), (950, 1000)]


def integrated(successes: int, trials: int, p: float) -> float:
    """log of the mixture of likelihood ratios, by quadrature in u = (1 - q)^b, which is uniform."""
    missed = trials - successes

    def log_ratio(q: float) -> float:
        lost = missed * math.log((1 - q) / (1 - p)) if missed else 0.0
        return successes * math.log(q / p) + lost

    largest = log_ratio(max(p, successes / trials))

    def ratio(u: float) -> float:
        q = 1 - u ** (1 / SHAPE)
        return 0.0 if missed and q >= 1 else math.exp(log_ratio(q) - largest)

    top = (1 - p) ** SHAPE
    peak = max(0.0, 1 - successes / trials) ** SHAPE
    inside = [peak] if 0 < peak < top else None
    area = quad(ratio, 0, top, points=inside, limit=400, epsabs=0, epsrel=1e-10)[0]
    return math.log(area / top) + largest


@pytest.mark.parametrize(("successes", "trials"), COUNTS)
@pytest.mark.parametrize("p", [0.3, 0.6, 0.9, 0.97])
def test_wealth_is_the_integral(successes, trials, p):
    expected = integrated(successes, trials, p)
    assert log_wealth(successes, trials, p) == pytest.approx(expected, abs=1e-5)


def test_a_tail_that_underflows_rejects_nothing():
    assert log_wealth(600, 1000, 0.95) < 0
    assert log_wealth(6000, 100_000, 0.95) == -np.inf


@pytest.mark.parametrize(("successes", "trials"), COUNTS)
@pytest.mark.parametrize("alpha", [0.6, 0.05, 0.001])
def test_what_is_rejected_has_no_gap(successes, trials, alpha):
    low = TruncatedMixture().lower(successes, trials, alpha)
    wanted = -math.log(min(alpha, math.exp(-SHAPE)))
    below = np.geomspace(1e-20, max(low, 1e-20), 500)
    above = low + (1 - low) * np.linspace(1e-6, 1 - 1e-9, 500)
    assert (log_wealth(successes, trials, below) >= wanted).all()
    assert (log_wealth(successes, trials, above) < wanted).all()


@pytest.mark.parametrize(("successes", "trials"), [*COUNTS, (99_990, 100_000)])
def test_looking_as_often_as_one_likes_costs_something(successes, trials):
    fixed, anytime = ClopperPearson(), TruncatedMixture()
    assert anytime.lower(successes, trials, 0.001) < fixed.lower(successes, trials, 0.001)
    assert anytime.upper(successes, trials, 0.001) >= fixed.upper(successes, trials, 0.001)


def test_it_is_registered():
    assert isinstance(bounds.get("truncated-mixture"), TruncatedMixture)
