from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from phalanx.errors import ParameterError
from phalanx.runs.arithmetic import largest_radius, lower_limit, lower_limits, radius_of
from phalanx.runs.statistics import bootstrap_mean, clopper_pearson, paired_difference


@given(st.integers(1, 3000), st.data())
def test_clopper_pearson_solves_its_equations(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    low, high = clopper_pearson(hits, trials)
    assert 0 <= low <= hits / trials <= high <= 1
    if hits:
        assert binom.sf(hits - 1, trials, low) == pytest.approx(0.025, rel=1e-6)
    if hits < trials:
        assert binom.cdf(hits, trials, high) == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize(("hits", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_rate_is_refused(hits: int, trials: int) -> None:
    with pytest.raises(ParameterError):
        clopper_pearson(hits, trials)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, float("nan")])
def test_what_is_no_level_is_refused(level: float) -> None:
    for attempt in (lambda: clopper_pearson(1, 2, level), lambda: bootstrap_mean([1, 2], level)):
        with pytest.raises(ParameterError):
            attempt()


@pytest.mark.parametrize("digits", [1, 6])
def test_the_bootstrap_is_near_the_normal_interval(digits: int) -> None:
    """One digit leaves few distinct values and takes the multinomial way."""
    values = np.random.default_rng(1).random(2000).round(digits)
    low, high = bootstrap_mean(values)
    error = 1.96 * values.std() / np.sqrt(values.size)
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=6e-4)
    assert (low, high) == bootstrap_mean(values)
    assert (low, high) != bootstrap_mean(values, seed=1)


@pytest.mark.parametrize("values", [[], [float("nan")], [[1.0, 2.0]]])
def test_what_has_no_mean_is_refused(values: list) -> None:
    with pytest.raises(ParameterError):
        bootstrap_mean(values)


def test_pairing_removes_what_both_share() -> None:
    shared = np.random.default_rng(0).random(500)
    difference, (low, high) = paired_difference(shared + 0.01, shared)
    assert difference == pytest.approx(0.01)
    assert high - low < 1e-9
    with pytest.raises(ParameterError, match="cannot be paired"):
        paired_difference([1.0], [1.0, 2.0])


@given(st.integers(1, 5000), st.floats(1e-9, 0.5), st.data())
def test_the_lower_limit_solves_its_equation(n: int, alpha: float, data: st.DataObject) -> None:
    n_a = data.draw(st.integers(1, n))
    assert binom.sf(n_a - 1, n, lower_limit(n_a, n, alpha)) == pytest.approx(alpha, rel=1e-6)


def test_many_limits_at_once_are_the_single_ones() -> None:
    pairs = [(0, 50), (1, 50), (50, 50), (30, 50), (60, 100)]
    found = lower_limits(pairs, 0.01)
    assert found == {pair: lower_limit(*pair, 0.01) for pair in pairs}


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ParameterError, match="alpha"):
        lower_limit(5, 10, alpha)


@pytest.mark.parametrize(("n_a", "n"), [(-1, 10), (11, 10), (0, 0)])
def test_impossible_counts_are_refused(n_a: int, n: int) -> None:
    with pytest.raises(ParameterError):
        lower_limit(n_a, n, 0.001)


def test_no_radius_below_one_half() -> None:
    assert radius_of(0.5, 1.0) == radius_of(0.1, 1.0) == 0.0
    assert largest_radius(1, 0.6, 1.0) == pytest.approx(0.2533, abs=1e-4)
