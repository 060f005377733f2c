"""The laws against independent numpy and synthetic margins of known correlation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.diagnostics import correlation as law
from phalanx.errors import ParameterError


def equicorrelated(zeta, *, members, samples, classes=4, mean=2.0, spread=0.0, seed=0):
    """Margins whose members share a part of the noise: pair correlation exactly ``zeta``."""
    draw = np.random.default_rng(seed)
    shared = draw.standard_normal((1, samples, classes - 1))
    own = draw.standard_normal((members, samples, classes - 1))
    clean = mean + spread * draw.standard_normal((members, 1, classes - 1))
    return torch.from_numpy(clean + np.sqrt(zeta) * shared + np.sqrt(1 - zeta) * own)


def reference_zeta(z):
    """Mean pair covariance over mean variance, with numpy.cov class by class."""
    matrix = sum(np.cov(z[:, :, i].numpy(), ddof=1) for i in range(z.shape[2]))
    members = len(matrix)
    off = matrix[~np.eye(members, dtype=bool)].mean()
    return off / np.diag(matrix).mean(), matrix


@pytest.mark.parametrize("zeta", [0.0, 0.3, 0.8, 1.0])
def test_zeta_of_equicorrelated_gaussians_is_recovered(zeta):
    z = equicorrelated(zeta, members=5, samples=20000)
    assert law.zeta_noise(z) == pytest.approx(zeta, abs=0.02)
    off = law.pair_correlations(z)[~torch.eye(5, dtype=torch.bool)]
    assert off.numpy() == pytest.approx(np.full(20, zeta), abs=0.03)


@pytest.mark.parametrize("zeta", [0.1, 0.6])
def test_measured_variance_ratio_lies_on_the_line(zeta):
    z = equicorrelated(zeta, members=6, samples=20000, seed=1)
    for k in range(1, 7):
        choices = law.member_subsets(6, k, 8, key=k)
        assert law.variance_ratio(z, choices) == pytest.approx(law.variance_law(zeta, k), abs=0.02)


@given(st.integers(2, 5), st.integers(3, 20), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_zeta_and_ratio_match_numpy_on_any_margins(members, samples, classes, seed):
    z = torch.from_numpy(np.random.default_rng(seed).standard_normal((members, samples, classes)))
    zeta, matrix = reference_zeta(z)
    assert law.zeta_noise(z) == pytest.approx(zeta, abs=1e-12)
    assert law.pooled_covariance(z).numpy() == pytest.approx(matrix)
    for k in range(1, members + 1):
        choices = list(combinations(range(members), k))
        of_means = [z[list(c)].mean(0).var(0, correction=1).sum() for c in choices]
        ratio = float(np.mean(of_means)) / np.diag(matrix).mean()
        assert law.variance_ratio(z, choices) == pytest.approx(ratio)
        # The exact identity behind the theory line.
        assert ratio == pytest.approx(law.variance_law(zeta, k), abs=1e-9)


def test_spread_of_member_means_lowers_zeta_over_members():
    # Total variance per class 1 + .5^2, of which noise shares .6.
    found = [
        law.zeta_members(equicorrelated(0.6, members=8, samples=500, spread=0.5, seed=s))
        for s in range(200)
    ]
    assert np.mean(found) == pytest.approx(0.6 / 1.25, abs=0.02)


def test_without_spread_both_zetas_agree():
    z = equicorrelated(0.6, members=8, samples=5000)
    assert law.zeta_members(z) == pytest.approx(law.zeta_noise(z), abs=0.01)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -3.7])
def test_margins_without_variance_have_no_correlation(value):
    z = torch.full((3, 777, 2), value, dtype=torch.float64)
    assert law.zeta_noise(z) is None
    assert law.zeta_members(z) is None
    assert law.variance_ratio(z, [(0, 1)]) is None
    assert law.pair_correlations(z).isnan().all()


def test_a_constant_member_only_takes_its_own_pairs_away():
    z = equicorrelated(0.5, members=3, samples=2000)
    z[2] = 1.0
    pairs = law.pair_correlations(z)
    assert pairs[0, 1] == pytest.approx(0.5, abs=0.05)
    assert pairs[0, 2].isnan()
    assert law.zeta_noise(z) == pytest.approx(0.5 / 3 / (2 / 3), abs=0.05)


def test_margins_of_a_class_leave_it_out():
    logits = torch.arange(12, dtype=torch.float64).view(3, 4) ** 2
    for label in range(4):
        others = [i for i in range(4) if i != label]
        assert torch.equal(law.margins(logits, label), logits[:, [label]] - logits[:, others])


def test_one_member_has_no_correlation_with_others():
    with pytest.raises(ParameterError, match="at least two"):
        law.zeta_noise(torch.randn(1, 5, 2, dtype=torch.float64))


@pytest.mark.parametrize("size", [0, 4])
def test_subsets_are_between_one_and_all(size):
    with pytest.raises(ParameterError):
        law.member_subsets(3, size, 10, key=0)


def test_sampled_subsets_are_keyed_distinct_and_cover_everybody():
    first = law.member_subsets(12, 6, 20, key=5)
    assert first == law.member_subsets(12, 6, 20, key=5) != law.member_subsets(12, 6, 20, key=6)
    assert len(set(first)) == 20
    assert {m for choice in first for m in choice} == set(range(12))
