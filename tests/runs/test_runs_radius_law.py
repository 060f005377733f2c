"""The radius law against the certificate's own code and against simulated votes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from phalanx.errors import ParameterError
from phalanx.runs.radius_law import (
    QUANTILES,
    observed,
    predicted,
    radii_of_counts,
    share_quantiles,
)
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.radii import radii

SIGMA, ALPHA = 0.5, 0.001


@pytest.mark.parametrize("alpha", [0.001, 0.3, 0.9])
def test_radii_are_those_of_the_certificate(alpha):
    n = 200
    lower, radius = bounds.get("clopper-pearson").lower, radii.get("neyman-pearson").radius
    wanted = [radius(lower(k, n, alpha), SIGMA) for k in range(n + 1)]
    found = radii_of_counts(n, sigma=SIGMA, alpha=alpha)
    assert found == pytest.approx(wanted, abs=1e-9)
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("n", [100, 1_000, 100_000])
@pytest.mark.parametrize("p", [0.55, 0.9, 0.999, 0.999995])
def test_the_law_is_what_simulated_votes_do(n, p):
    table = radii_of_counts(n, sigma=SIGMA, alpha=ALPHA)
    votes = np.random.default_rng(7).binomial(n, p, 20_000)
    found, seen = predicted([p], table), observed(table[votes])
    error = table[votes].std() / math.sqrt(len(votes))
    assert found.mean == pytest.approx(seen.mean, abs=5 * error + 1e-9)
    assert found.none == pytest.approx(seen.none, abs=0.02)
    for quantile in (found.low, found.median, found.high):
        # A quantile of a law on few counts: right if the simulation is on either side of it.
        level = dict(zip((found.low, found.median, found.high), QUANTILES, strict=False))[quantile]
        assert (table[votes] < quantile).mean() <= level + 0.02
        assert (table[votes] <= quantile).mean() >= level - 0.02


def test_a_probability_of_almost_nothing_is_nothing():
    """SciPy's law of such a binomial overflows."""
    table = radii_of_counts(4, sigma=SIGMA, alpha=ALPHA)
    assert predicted([2.3e-308], table) == predicted([0.0], table)


@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1)), min_size=1, max_size=6),
    st.integers(1, 400),
)
@settings(max_examples=60, deadline=None)
def test_a_mixture_is_summed_exactly(successes, n):
    table = radii_of_counts(n, sigma=SIGMA, alpha=ALPHA)
    mass = np.mean([binom.pmf(np.arange(n + 1), n, p) for p in successes], axis=0)
    found = predicted(successes, table)
    assert found.mean == pytest.approx(float(mass @ table), abs=1e-10)
    assert found.none == pytest.approx(float(mass[table <= 0].sum()), abs=1e-10)
    assert found.low <= found.median <= found.high <= table[-1]


def test_more_samples_never_lower_the_mean_of_a_clear_vote():
    means = [
        predicted([0.99], radii_of_counts(n, sigma=SIGMA, alpha=ALPHA)).mean
        for n in (100, 1_000, 10_000, 100_000)
    ]
    assert means == sorted(means)
    assert means[-1] < SIGMA * 2.3264  # sigma times the normal quantile of .99: the limit


def test_a_certain_vote_reaches_the_cap():
    table = radii_of_counts(1_000, sigma=SIGMA, alpha=ALPHA)
    found = predicted([1.0], table)
    assert (found.low, found.median, found.high) == (table[-1],) * 3
    assert found.mean == pytest.approx(table[-1])
    assert predicted([0.0], table).none == pytest.approx(1.0)


@pytest.mark.parametrize("shares", [[], [1.1], [-0.1], [math.nan]])
def test_shares_are_probabilities(shares):
    with pytest.raises(ParameterError):
        predicted(shares, np.zeros(11))
    with pytest.raises(ParameterError):
        share_quantiles(shares)


@pytest.mark.parametrize("values", [[], [-0.1], [math.nan]])
def test_radii_are_not_negative(values):
    with pytest.raises(ParameterError):
        observed(values)


@pytest.mark.parametrize(
    "change", [{"n": 0}, {"alpha": 0.0}, {"alpha": math.nan}, {"sigma": 0.0}, {"sigma": math.inf}]
)
def test_levels_without_meaning_are_refused(change):
    given = {"n": 10, "sigma": 0.5, "alpha": 0.001, **change}
    with pytest.raises(ParameterError):
        radii_of_counts(given.pop("n"), **given)
