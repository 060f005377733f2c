"""Counts to certificates, against independent computations."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import pytest
import torch
from scipy import stats

from phalanx.errors import ParameterError
from phalanx.evaluation.config import CertifyConfig
from phalanx.noise.distributions import added_sigma, check_sigma
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.runs.schema import INVALID
from phalanx.smoothing.certificate import certify_counts, certify_evidence
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.confidence.clopper_pearson import SMALLEST_ALPHA
from phalanx.smoothing.radii import radii
from phalanx.smoothing.stopping import Evidence, selected
from phalanx.verdicts import Verdict

CP = bounds.get("clopper-pearson")
NP = radii.get("neyman-pearson")


def exact_tail(successes: int, trials: int, p: Fraction) -> Fraction:
    """P[Bin(trials, p) >= successes] in exact rationals."""
    return sum(
        (
            math.comb(trials, k) * p**k * (1 - p) ** (trials - k)
            for k in range(successes, trials + 1)
        ),
        Fraction(0),
    )


@pytest.mark.parametrize(("k", "n"), [(1, 1), (5, 10), (10, 10), (37, 50), (50, 50)])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_the_bound_is_just_below_the_exact_one(k, n, alpha):
    p = Fraction(CP.lower(k, n, alpha))
    assert exact_tail(k, n, p) <= Fraction(alpha)
    assert exact_tail(k, n, p * Fraction(1 + 1e-9)) > Fraction(alpha)


@pytest.mark.shared
def test_published_unit_cases(shared):
    for case in json.loads((shared / "golden/np_unit_cases.json").read_text()):
        p = CP.lower(case["nA"], case["N"], case["alpha"])
        assert p == pytest.approx(case["p_lower"], rel=1e-11)
        assert p <= case["p_lower"]
        radius = NP.radius(p, case["sigma"])
        added = min(1.0, added_sigma(case["sigma"]) / case["sigma"])
        assert radius == pytest.approx(case["radius"] * added, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("sigma", [0.1, 0.12, 0.3, 0.6, 0.7, 1 / 3])
def test_the_radius_is_that_of_the_noise_that_is_added(sigma):
    z = NP.radius(0.999, 1.0)
    added = float(torch.add(torch.zeros(1), torch.ones(1), alpha=sigma))
    assert NP.radius(0.999, sigma) <= min(sigma, added) * z * (1 + 1e-15)
    assert NP.radius(0.999, sigma) == pytest.approx(sigma * z, rel=1e-7)


@pytest.mark.parametrize("sigma", [1e-46, 1e-39, 1e-38, 1e39, 1e300])
def test_a_level_that_float32_does_not_hold_is_refused(sigma):
    for use in (check_sigma, Gaussian, lambda level: NP.radius(0.9, level)):
        with pytest.raises(ParameterError, match="float32"):
            use(sigma)


@pytest.mark.parametrize("sigma", [1.2e-38, 3.4e38])
def test_a_level_that_float32_just_holds_is_taken(sigma):
    assert 0 < NP.radius(0.9, sigma) <= sigma * stats.norm.ppf(0.9)


@pytest.mark.parametrize("alpha", [9.9e-13, 1e-20, 1e-250, 5e-324])
def test_a_level_below_the_arithmetic_is_refused(alpha):
    for use in (CP.lower, CP.upper):
        with pytest.raises(ParameterError, match="accurately enough"):
            use(198820, 198847, alpha)


def test_the_smallest_level_is_still_a_bound():
    for k, n in ((375, 550), (99, 100), (1, 7), (940, 1000)):
        p = Fraction(CP.lower(k, n, SMALLEST_ALPHA))
        assert exact_tail(k, n, p) <= Fraction(SMALLEST_ALPHA)


@pytest.mark.parametrize("p", [0.51, 0.75, 0.999, 1 - 1e-9])
def test_radii_are_rounded_towards_zero(p):
    radius = NP.radius(p, 1.0)
    assert stats.norm.cdf(radius) <= p
    assert radius == pytest.approx(stats.norm.ppf(p), rel=1e-12)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5])
def test_no_radius_without_a_majority(p):
    assert NP.radius(p, 0.25) == 0.0


def test_a_clear_majority_is_verified():
    found = certify_counts({2: 90, 1: 10}, {2: 990, 1: 10}, sigma=0.5, alpha=0.001)
    assert found.verdict is Verdict.VERIFIED
    assert (found.predicted, found.n_a, found.n) == (2, 990, 1000)
    reference = 0.5 * stats.norm.ppf(stats.beta.ppf(0.001, 990, 11))
    assert found.radius == pytest.approx(reference, rel=1e-9)
    assert found.radius < reference


def test_the_class_comes_from_the_selection_votes_alone():
    found = certify_counts({1: 60, 2: 40}, {2: 900, 1: 100}, sigma=0.5, alpha=0.001)
    assert found.verdict is Verdict.ABSTAINED
    assert (found.predicted, found.radius, found.n_a) == (None, 0.0, 100)


def test_a_bound_of_one_half_is_no_majority():
    evidence = Evidence(label=1, n_a=60, n=100, p_lower=0.5, broken=0, samples=120)
    found = certify_evidence(evidence, sigma=0.5, alpha=0.001)
    assert (found.verdict, found.predicted, found.radius) == (Verdict.ABSTAINED, None, 0.0)
    just = certify_evidence(evidence._replace(p_lower=0.5000001), sigma=0.5, alpha=0.001)
    assert just.verdict is Verdict.VERIFIED


def test_selection_ties_go_to_the_lowest_class():
    assert selected({3: 50, 1: 50}) == 1


@pytest.mark.parametrize("where", ["selection", "estimation"])
def test_a_vote_that_is_not_finite_is_an_error_never_a_class(where):
    counts = {"selection": {0: 100}, "estimation": {0: 1000}}
    counts[where] = {0: 99, INVALID: 1}
    found = certify_counts(counts["selection"], counts["estimation"], sigma=0.5, alpha=0.001)
    assert found.verdict is Verdict.ERROR
    assert found.predicted is None
    assert found.radius is None
    assert "NaN" in found.reason


def test_the_cap_is_what_unanimous_votes_give():
    assert CertifyConfig(sigma=1.0).largest_radius() == pytest.approx(3.8115, abs=1e-4)
    cap = CertifyConfig(sigma=0.25, n=1000, alpha=0.01).largest_radius()
    assert certify_counts({4: 10}, {4: 1000}, sigma=0.25, alpha=0.01).radius == cap


@pytest.mark.parametrize(
    ("k", "n", "alpha"),
    [
        (1, 0, 0.01),
        (-1, 10, 0.01),
        (11, 10, 0.01),
        (5, 10, 0.0),
        (5, 10, 1.0),
        (5, 10, 1.5),
        (5, 10, -0.1),
        (5, 10, float("nan")),
    ],
)
def test_counts_and_levels_without_a_bound_are_refused(k, n, alpha):
    with pytest.raises(ParameterError):
        CP.lower(k, n, alpha)


def test_upper_mirrors_lower():
    assert CP.upper(10, 10, 0.05) == 1.0
    assert CP.upper(3, 10, 0.05) == pytest.approx(stats.beta.ppf(0.95, 4, 7), rel=1e-9)


def test_upper_takes_every_level():
    assert CP.upper(3, 10, 0.7) == pytest.approx(stats.beta.ppf(0.3, 4, 7), rel=1e-9)
    with pytest.raises(ParameterError):
        CP.upper(3, 10, 1.0)
