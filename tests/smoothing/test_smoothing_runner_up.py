"""A bound on the runner-up of its own, and the radius from two bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from phalanx.errors import ParameterError
from phalanx.smoothing.certificate import certify_evidence
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.radii.neyman_pearson import NeymanPearson
from phalanx.smoothing.stopping import Setting, fixed_evidence, rules

PLAIN = bounds.get("clopper-pearson")
RULE = NeymanPearson()


@pytest.mark.parametrize(("p_a", "p_b"), [(0.4, 0.3), (0.6, 0.2), (0.9, 0.05), (0.51, 0.49)])
def test_the_radius_is_where_half_spaces_exchange_their_class(p_a, p_b):
    """Class A is a half-space, B the opposite one, the rest lies between: tight, so exact."""
    radius = RULE.radius_against(p_a, [p_b], 1.0)

    def gap(distance: float) -> float:
        return norm.cdf(norm.ppf(p_a) - distance) - norm.cdf(norm.ppf(p_b) + distance)

    assert gap(radius) >= 0
    assert gap(radius * (1 + 1e-9)) < 0
    assert RULE.radius_against(p_a, [p_b], 1.0) >= RULE.radius(p_a, 1.0) * (1 - 1e-12)


def test_with_nothing_known_of_the_others_it_is_the_two_class_radius():
    for p in (0.6, 0.9, 0.9999):
        assert RULE.radius_against(p, [1 - p], 0.5) == pytest.approx(RULE.radius(p, 0.5), rel=1e-12)


def test_what_is_no_bound_is_refused():
    for pair in ((1.0, 0.1), (0.9, 0.0), (float("nan"), 0.1), (0.9, float("nan")), (0.9, 1.1)):
        with pytest.raises(ParameterError):
            RULE.radius_against(pair[0], [pair[1]], 0.5)
    assert RULE.radius_against(0.3, [0.4], 0.5) == 0.0


@pytest.mark.parametrize("truth", [(0.45, 0.35, 0.1, 0.1), (0.52, 0.46, 0.01, 0.01)])
def test_both_bounds_hold_together(truth):
    """Failures of (p_A too high or some other class too low), over 20,000 runs at alpha 0.05."""
    draw, alpha, n, runs = np.random.default_rng(3), 0.05, 400, 20_000
    votes = draw.multinomial(n, truth, size=runs)
    found = {}
    wrong = 0
    for row in votes:
        key = (row[0], row[1:].max())
        if key not in found:
            counts = {label: int(count) for label, count in enumerate(row)}
            found[key] = fixed_evidence({0: 1}, counts, PLAIN, alpha, runner_up=0.5, classes=4)
        one = found[key]
        wrong += one.p_lower > truth[0] or one.others[0] < max(truth[1:])
    assert wrong / runs <= alpha + 4 * np.sqrt(alpha / runs)


def test_it_certifies_a_class_with_less_than_half():
    counts = {0: 450, 1: 200, 2: 175, 3: 175}
    evidence = fixed_evidence({0: 1}, counts, PLAIN, 0.001, runner_up=0.5, classes=4)
    found = certify_evidence(evidence, sigma=0.5, alpha=0.001)
    assert found.predicted == 0
    assert found.radius > 0.1
    plain = certify_evidence(fixed_evidence({0: 1}, counts, PLAIN, 0.001), sigma=0.5, alpha=0.001)
    assert plain.radius == 0.0


def test_rules_that_decide_by_one_probability_refuse_it():
    setting = Setting(
        n=1000, n0=10, chunk=500, alpha=0.001, bound=PLAIN, targets=(0.9,), runner_up=0.5
    )
    for name in ("staged", "anytime", "anytime-radius"):
        with pytest.raises(ParameterError, match="runner-up"):
            rules.get(name)(setting)


def test_a_rule_that_has_no_use_for_it_refuses_it():
    evidence = fixed_evidence({0: 1}, {0: 99, 1: 1}, PLAIN, 0.001, runner_up=0.5)
    with pytest.raises(ParameterError, match="no use for"):
        certify_evidence(evidence, sigma=0.5, alpha=0.001, certificate="renyi")
