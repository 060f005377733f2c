"""When each rule ends, look by look, beside the bounds it speaks of."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from phalanx.errors import ParameterError
from phalanx.runs.schema import ESTIMATION, INVALID, SELECTION
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.stopping import Evidence, Setting, rules
from phalanx.smoothing.stopping._looks import Path
from phalanx.smoothing.stopping.anytime import Anytime
from phalanx.smoothing.stopping.anytime_radius import AnytimeRadius
from phalanx.smoothing.stopping.staged import Staged

ANYTIME = bounds.get("truncated-mixture")
NORMAL = NormalDist()
ALPHA, BETA, RESERVE = 0.02, 0.005, 0.25


def setting(**other) -> Setting:
    values = {
        "n": 1000,
        "n0": 20,
        "chunk": 500,
        "alpha": ALPHA,
        "beta": BETA,
        "reserve": RESERVE,
        "bound": bounds.get("clopper-pearson"),
        "radius": lambda p: NORMAL.inv_cdf(p) if p > 0.5 else 0.0,
        "probability": NORMAL.cdf,
    }
    return Setting(**{**values, **other})


def path(hits, seen) -> Path:
    hits, seen = np.atleast_1d(hits), np.atleast_1d(seen)
    return Path(seen, hits, np.zeros_like(hits))


@pytest.mark.parametrize("targets", [(0.6,), (0.9,), (0.6, 0.8, 0.95)])
@pytest.mark.parametrize("seen", [50, 200])
def test_a_look_decides_what_the_bounds_decide(targets, seen):
    rule = Anytime(setting(targets=targets))
    decided = []
    for hits in range(0, seen + 1, 5):
        low = ANYTIME.lower(hits, seen, ALPHA * (1 - RESERVE))
        high = ANYTIME.upper(hits, seen, BETA)
        decided.append(all(low >= target or high <= target for target in targets))
        assert rule.decided(path(hits, seen)).tolist() == [decided[-1]], hits
    assert len(set(decided)) == 2


def test_what_is_decided_stays_so():
    rule = Anytime(setting(targets=(0.6, 0.8)))
    shown_then_not = path([50, 60, 120, 170], [50, 100, 200, 300])
    assert rule.decided(shown_then_not).tolist() == [True] * 4
    undecided = path([40, 80, 280], [50, 100, 400])
    assert rule.decided(undecided).tolist() == [False, False, True]


@pytest.mark.parametrize("n", [300, 1000])
@pytest.mark.parametrize("fraction", [0.4, 0.7])
def test_the_radius_is_good_enough_at_its_fraction_of_what_is_in_reach(n, fraction):
    s, decided = setting(n=n, fraction=fraction), []
    for seen in (100, 200, 290):
        for hits in range(seen // 2, seen + 1, 2):
            left = hits + n - seen
            unanimous = stats.beta.ppf(ALPHA * RESERVE, left, n - left + 1)
            plausible = stats.beta.ppf(1 - BETA, hits + 1, seen - hits) if hits < seen else 1.0
            reach = s.radius(min(unanimous, plausible))
            found = s.radius(ANYTIME.lower(hits, seen, ALPHA * (1 - RESERVE)))
            decided.append(found >= fraction * reach or reach == 0)
            assert AnytimeRadius(s).decided(path(hits, seen)).tolist() == [decided[-1]], (
                hits,
                seen,
            )
    assert len(set(decided)) == 2


@pytest.mark.parametrize("stage", [0, 1])
def test_a_stage_ends_the_sampling_where_its_own_bounds_decide(stage):
    s = setting(targets=(0.7, 0.9), stages=(100, 200), beta=0.02)
    size, ended = (100, 200)[stage], set()
    # Stages before it left one target undecided.
    votes = {SELECTION: [{1: 20}], ESTIMATION: [{1: 88, 0: 12}]} if stage else {}
    names = [f"{phase}-{stage}" if stage else phase for phase in (SELECTION, ESTIMATION)]
    for hits in range(size // 2, size + 1, 2):
        votes |= {names[0]: [{1: 20}], names[1]: [{1: hits, 0: size - hits}]}
        low = stats.beta.ppf(ALPHA / 3, hits, size - hits + 1)
        high = stats.beta.ppf(1 - 0.02 / 2, hits + 1, size - hits) if hits < size else 1.0
        decided = all(low >= target or high < target for target in s.targets)
        found = Staged(s).decide(votes)
        assert isinstance(found, Evidence) is decided, hits
        if isinstance(found, Evidence):
            assert found.p_lower == pytest.approx(low, rel=1e-9)
            assert (found.n_a, found.n) == (hits, size)
            assert found.samples == 20 + size + (120 if stage else 0)
        else:
            assert sum(chunk.rows for chunk in found) == 20 + (200, s.n)[stage]
            assert {chunk.phase for chunk in found} == {
                f"{phase}-{stage + 1}" for phase in (SELECTION, ESTIMATION)
            }
        ended.add(decided)
    assert ended == {True, False}


def test_a_single_stage_is_a_fixed_number():
    s = setting(targets=(0.7,))
    for hits in (600, 700, 990):
        votes = {SELECTION: [{1: 20}], ESTIMATION: [{1: 500}, {1: hits - 500, 0: 1000 - hits}]}
        assert Staged(s).decide(votes) == rules.get("fixed")(s).decide(votes)


@pytest.mark.parametrize("name", ["fixed", "staged", "anytime", "anytime-radius"])
def test_the_most_is_what_unanimous_votes_give(name):
    s = setting(targets=(0.7, 0.999), stages=(100, 200), fraction=1.0)
    rule, votes = rules.get(name)(s), {}
    while not isinstance(found := rule.decide(votes), Evidence):
        for chunk in found:
            if chunk.index >= len(votes.setdefault(chunk.phase, [])):
                votes[chunk.phase].append({3: chunk.rows})
    assert found.p_lower == rule.most()
    assert found.label == 3
    assert found.samples == rule.samples()


def test_the_reserved_share_is_spent_at_the_last_sample():
    """Both shares together are alpha; the last bound has the reserved one."""
    s = setting(targets=(0.999,), reserve=0.9)
    votes = {SELECTION: [{1: 20}], ESTIMATION: []}
    rule = Anytime(s)
    while not isinstance(found := rule.decide(votes), Evidence):
        votes[ESTIMATION].append({1: found[-1].rows})
    assert found.n == s.n
    assert found.p_lower == pytest.approx((ALPHA * 0.9) ** (1 / s.n), rel=1e-9)


@pytest.mark.parametrize("name", ["anytime", "anytime-radius"])
@pytest.mark.parametrize("reserve", [0.0, 1e-11, 1 - 1e-11, 1.0])
def test_a_share_of_alpha_that_no_bound_can_have_is_refused(name, reserve):
    with pytest.raises(ParameterError, match="alpha is"):
        rules.get(name)(setting(targets=(0.6,), reserve=reserve))


@pytest.mark.parametrize("phase", [SELECTION, ESTIMATION])
@pytest.mark.parametrize("name", ["fixed", "staged", "anytime", "anytime-radius"])
def test_votes_that_are_not_finite_are_counted(name, phase):
    s = setting(targets=(0.6,), stages=(100,), chunk=2000)
    votes = {SELECTION: [{1: 20}], ESTIMATION: []}
    rows = {"fixed": 1000, "staged": 100}.get(name, 50)
    votes[ESTIMATION].append({1: rows})
    votes[phase] = [{1: sum(votes[phase][0].values()) - 3, INVALID: 3}]
    found = rules.get(name)(s).decide(votes)
    assert isinstance(found, Evidence)
    assert found.broken == 3
