"""An ensemble after smoothing: the sound radius, and why the largest of the members' is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from phalanx.errors import ParameterError
from phalanx.runs.schema import INVALID
from phalanx.smoothing.after_smoothing import AfterSmoothing, middle, together
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.radii.neyman_pearson import NeymanPearson
from phalanx.smoothing.stopping import Evidence, Setting
from phalanx.smoothing.stopping.fixed import Fixed

PLAIN = bounds.get("clopper-pearson")


def rule(n: int = 1000, members: int = 2, alpha: float = 0.001) -> AfterSmoothing:
    return AfterSmoothing(Fixed(Setting(n=n, n0=10, chunk=n, alpha=alpha / members, bound=PLAIN)))


def prediction(thresholds: list[float], x: float) -> int:
    """Members that say 0 up to their threshold, smoothed; the one with the largest radius decides.

    The smoothed member has ``Phi((t - x) / sigma)`` for class 0, so its signed radius is t - x.
    """
    signed = [threshold - x for threshold in thresholds]
    surest = max(signed, key=abs)
    return 0 if surest > 0 else 1


def test_the_largest_member_radius_is_no_certificate():
    """Thresholds 1 and 0.1: a radius of 1 is claimed at 0, and the class changes at 0.55."""
    thresholds = [1.0, 0.1]
    changed = min(x for x in np.linspace(0, 1, 2001) if prediction(thresholds, x) != 0)
    assert changed == pytest.approx(0.55, abs=1e-3)
    sigma = 0.5
    p = [float(norm.cdf(t / sigma)) for t in thresholds]
    largest = max(NeymanPearson().radius(value, sigma) for value in p)
    sound = NeymanPearson().radius(middle(p), sigma)
    assert largest == pytest.approx(1.0)
    assert changed < largest
    assert sound == pytest.approx(0.55)
    assert sound <= 0.55


def test_the_radius_holds_for_random_members():
    draw = np.random.default_rng(0)
    for _ in range(300):
        thresholds = draw.normal(0.3, 1.0, size=draw.integers(2, 6)).tolist()
        reach = (max(thresholds) + min(thresholds)) / 2
        p = middle([float(norm.cdf(t)) for t in thresholds])
        radius = NeymanPearson().radius(p, 1.0)
        assert radius <= max(reach, 0.0)
        assert radius == pytest.approx(max(reach, 0.0), abs=1e-9)
        if radius > 1e-6:
            assert all(prediction(thresholds, x) == 0 for x in np.linspace(-radius, radius, 50))


def failures(signed_radius, runs: int, alpha: float) -> float:
    """How often a radius exceeds the true one, with members at p = 0.98 and 0.05."""
    draw, truth, n = np.random.default_rng(1), (0.98, 0.05), 1000
    true_radius = (norm.ppf(truth[0]) + norm.ppf(truth[1])) / 2
    hits = draw.binomial(n, truth, size=(runs, 2))
    found = [(norm.ppf(PLAIN.lower(a, n, alpha / 2)) + signed_radius(b, n)) / 2 for a, b in hits]
    return float(np.mean(np.array(found) > true_radius))


def test_a_wrong_member_counts_with_how_far_it_is_wrong_at_most():
    """Its own certified radius, negated, is a bound from the wrong side."""
    alpha = 0.02

    def own_radius_negated(hits, n):
        return -norm.ppf(PLAIN.lower(n - hits, n, alpha / 2))

    def lower_bound(hits, n):
        return norm.ppf(PLAIN.lower(hits, n, alpha / 2))

    assert failures(own_radius_negated, 2000, alpha) > 5 * alpha
    assert failures(lower_bound, 2000, alpha) <= alpha


def test_the_class_is_that_of_all_selection_votes():
    members = [
        {"selection": [{0: 6, 1: 4}], "estimation": [{0: 900, 1: 100}]},
        {"selection": [{1: 9, 0: 1}], "estimation": [{1: 990, 0: 10}]},
    ]
    found = rule().decide(members)
    assert isinstance(found, Evidence)
    assert (found.label, found.n_a, found.n, found.samples) == (1, 1090, 2000, 2020)
    p = [PLAIN.lower(votes, 1000, 0.0005) for votes in (100, 990)]
    assert found.p_lower == middle(p)


def test_chunks_are_asked_for_until_all_members_have_them():
    members = [
        {"selection": [{0: 10}], "estimation": [{0: 1000}]},
        {"selection": [{0: 10}]},
    ]
    wanted = rule().decide(members)
    assert isinstance(wanted, list)
    assert {chunk.phase for chunk in wanted} == {"selection", "estimation"}


def test_a_vote_that_is_not_finite_breaks_the_ensemble():
    votes = {"selection": [{0: 10}], "estimation": [{0: 999, INVALID: 1}]}
    whole = {"selection": [{0: 10}], "estimation": [{0: 1000}]}
    found = rule().decide([whole, votes])
    assert isinstance(found, Evidence)
    assert found.broken == 1


def test_members_that_speak_of_different_classes_prove_nothing():
    found = together([Evidence(label, 90, 100, 0.9, 0, 100) for label in (0, 1)])
    assert found.p_lower == 0.0
    assert middle([0.999, 0.0]) == 0.0
    assert not math.isnan(middle([0.0, 0.0]))


def test_it_needs_several_models_and_certifies_each():
    names = [c.name for c in classifiers_of(3, reducer_names=["after-smoothing"])]
    assert names == ["after-smoothing", "member-0", "member-1", "member-2"]
    for members, consensus in ((1, None), (3, 2)):
        with pytest.raises(ParameterError, match="after-smoothing goes with several"):
            classifiers_of(members, reducer_names=["after-smoothing"], consensus=consensus)


def test_two_members_are_enough_and_one_is_not():
    assert classifiers_of(2, reducer_names=["after-smoothing"])[0].members == (0, 1)
    with pytest.raises(ParameterError, match="several models"):
        classifiers_of(1, reducer_names=["after-smoothing"])


def test_members_with_different_classes_prove_nothing_and_the_first_is_named():
    found = together([Evidence(3, 90, 100, 0.9, 0, 200), Evidence(1, 80, 100, 0.8, 0, 200)])
    assert (found.label, found.p_lower) == (3, 0.0)
