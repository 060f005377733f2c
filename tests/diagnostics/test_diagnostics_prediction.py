"""Bounds and predictions against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm

from phalanx.diagnostics import prediction
from phalanx.errors import ParameterError


@given(st.integers(2, 60), st.integers(1, 4), st.floats(-1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_chebyshev_never_exceeds_the_measured_share(samples, classes, mean, seed):
    z = mean + torch.from_numpy(np.random.default_rng(seed).standard_normal((samples, classes)))
    bound = prediction.chebyshev_bound(z)
    assert 0.0 <= bound <= float((z > 0).all(-1).double().mean()) + 1e-12


def test_chebyshev_is_the_papers_sum():
    z = torch.randn(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z += torch.tensor([4.0, 5.0, 9.0])
    x = z.numpy()
    assert prediction.chebyshev_bound(z) == pytest.approx(1 - (x.var(0) / x.mean(0) ** 2).sum())


def _normals(classes, draws=40000, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(draws, classes, dtype=torch.float64, generator=generator)


def test_gaussian_draws_have_the_mean_covariance_of_the_members():
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 300, 3)))
    z = z @ torch.tensor([[2.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 0.5]], dtype=z.dtype)
    draws = prediction.gaussian_draws(z, _normals(3))
    wanted = np.mean([np.cov(z[member].numpy().T) for member in range(2)], axis=0)
    assert np.cov(draws.numpy().T) == pytest.approx(wanted, abs=0.06)


def test_more_classes_than_samples_are_no_obstacle():
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 5, 20)))
    assert torch.isfinite(prediction.gaussian_draws(z, _normals(20, draws=50))).all()


@pytest.mark.parametrize(("mean", "ratio"), [(0.0, 1.0), (1.0, 1.0), (1.0, 0.25), (-0.5, 0.5)])
def test_gaussian_success_of_independent_margins(mean, ratio):
    draws = _normals(2)
    means = torch.full((2,), mean, dtype=torch.float64)
    found = prediction.gaussian_success(means, draws, draws.norm(dim=1), ratio)
    assert found == pytest.approx(norm.cdf(mean / ratio**0.5) ** 2, abs=0.01)


@pytest.mark.parametrize("mean", [3.0, 5.0])
def test_gaussian_success_sees_failures_rarer_than_its_draws(mean):
    draws = _normals(2, draws=4096)
    means = torch.full((2,), mean, dtype=torch.float64)
    found = prediction.gaussian_success(means, draws, draws.norm(dim=1), 1.0)
    assert 1 - found == pytest.approx(1 - norm.cdf(mean) ** 2, rel=0.1)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_gaussian_success_is_the_share_of_positive_draws(seed):
    draw = np.random.default_rng(seed)
    mean = torch.from_numpy(draw.normal(0.8, 1.0, 3))
    normals = torch.from_numpy(draw.standard_normal((20_000, 3)))
    draws = normals @ torch.from_numpy(draw.normal(0, 0.6, (3, 3)))
    found = prediction.gaussian_success(mean, draws, normals.norm(dim=1), 0.7)
    share = float((mean + 0.7**0.5 * draws > 0).all(-1).double().mean())
    assert found == pytest.approx(share, abs=0.02)


def test_margins_that_noise_does_not_move_are_certain():
    still, lengths = torch.zeros(8, 2, dtype=torch.float64), torch.ones(8, dtype=torch.float64)
    assert prediction.gaussian_success(torch.tensor([1.0, 2.0]), still, lengths, 1.0) == 1.0
    assert prediction.gaussian_success(torch.tensor([1.0, -2.0]), still, lengths, 1.0) == 0.0


def test_radius_table_is_cohens_radius_of_every_count():
    n, alpha, sigma = 40, 0.01, 0.5
    table = prediction.radius_table(n, sigma=sigma, alpha=alpha)
    counts = np.arange(1, n + 1)
    wanted = sigma * norm.ppf(beta.ppf(alpha, counts, n - counts + 1))
    assert table[0] == 0.0
    assert table[1:] == pytest.approx(np.maximum(wanted, 0.0))


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0])
def test_expected_radius_is_the_binomial_mean(p):
    table = prediction.radius_table(50, sigma=1.0, alpha=0.01)
    wanted = sum(binom.pmf(k, 50, p) * table[k] for k in range(51))
    assert prediction.expected_radius(p, table) == pytest.approx(wanted)


@pytest.mark.parametrize(("sigma", "alpha"), [(0.0, 0.1), (float("nan"), 0.1), (1.0, 1.0)])
def test_bad_levels_are_refused(sigma, alpha):
    with pytest.raises(ParameterError):
        prediction.radius_table(10, sigma=sigma, alpha=alpha)
