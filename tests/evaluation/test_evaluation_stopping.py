"""Sweeps under every stopping rule: fewer samples, the same answers however they are shared."""

from __future__ import annotations

from dataclasses import replace

import pytest
from evaluation_helpers import certified, killed

from phalanx.errors import ParameterError
from phalanx.evaluation.config import CertifyConfig
from phalanx.evaluation.plan import plan
from phalanx.evaluation.request import manifest_of, settle
from phalanx.reporting.tables import summary_table
from phalanx.runs.explain import explain
from phalanx.runs.query import cap_of, summarise
from phalanx.runs.recheck import recheck
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.verdicts import Verdict

RULES = {
    "fixed": {},
    "staged": {"stop": "staged", "radii": (0.05, 0.1), "stages": (100, 1000)},
    "anytime": {"radii": (0.05, 0.1)},
    "anytime-radius": {"stop": "anytime-radius", "fraction": 0.8},
}


def options(rule: str) -> dict:
    return {"n": 4000, "n0": 50, "alpha": 0.01, **RULES[rule]}


@pytest.mark.parametrize("rule", RULES)
def test_certificates_can_be_recomputed(request_of, rule):
    store = certified(request_of(**options(rule)))
    assert store.manifest.config["stop"] == rule
    report = recheck(store)
    assert report.ok, report.as_json()
    assert not report.reasons()
    assert sum(record.verdict is Verdict.VERIFIED for record in store.certificates()) > 9


@pytest.mark.parametrize(
    "rule", ["fixed", "staged", "anytime", pytest.param("anytime-radius", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("batch", [200])
def test_company_and_batches_change_nothing(request_of, rule, batch):
    """An image alone, and one beside others, ends with the same votes and certificate."""
    together = certified(request_of(**options(rule), batch=batch))
    alone = request_of(**options(rule), batch=batch)
    single = certified(type(alone)(**{**vars(alone), "indices": [4]}))
    for name in ("mean", "member-0", "member-1"):
        (one,) = single.certificates(name, 4)
        (other,) = together.certificates(name, 4)
        assert (one.n, one.n_a, one.radius) == (other.n, other.n_a, other.radius)


@pytest.mark.parametrize("rule", ["staged", "anytime", "anytime-radius"])
def test_a_classifier_ends_where_it_would_end_alone(request_of, rule):
    """Others that share the noise and need more samples add nothing to its certificate."""
    both = certified(request_of(**options(rule)))
    alone = certified(request_of(members=1, **options(rule)))
    for one, other in zip(alone.certificates("model"), both.certificates("member-0"), strict=True):
        assert (one.n, one.n_a, one.radius) == (other.n, other.n_a, other.radius)


@pytest.mark.parametrize("rule", ["staged", "anytime", "anytime-radius"])
def test_fewer_samples_than_a_fixed_number(request_of, rule):
    more = {"n": 8000}  # the more there are to spare, the more is spared
    fixed = summarise(certified(request_of(**options("fixed") | more)), "mean")
    found = summarise(certified(request_of(**options(rule) | more)), "mean")
    assert found.samples < 0.7 * fixed.samples
    assert found.certified_accuracy.keys() == {"0", "0.05", "0.1"} or rule == "anytime-radius"
    # Nothing here lies within the noise of a radius that was asked for.
    for radius in (0.05, 0.1):
        assert found.at(radius).value == fixed.at(radius).value


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("after", [1, 4, 9])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(request_of, tmp_path, rule, after):
    whole = certified(request_of(**options(rule)), tmp_path / "whole").digest()
    killed(request_of(**options(rule)), tmp_path / "cut", after)
    assert certified(request_of(**options(rule)), tmp_path / "cut").digest() == whole


@pytest.mark.parametrize("rule", ["anytime", "anytime-radius", "staged"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("p_lower = p_lower + 0.01", "p_lower is"),
        ("radius = radius * 1.01", "radius is"),
        ("n_a = n_a + 1", "is stored"),
        ("n = n + 1", "stored"),
    ],
)
def test_a_changed_certificate_fails(request_of, rule, change, reason):
    store = certified(request_of(**options(rule)))
    victim = next(r for r in store.certificates("mean") if r.radius > 0.05)
    with store._database.transaction() as connection:
        where = f"image = {victim.image} AND classifier = 'mean'"
        connection.execute(f"UPDATE certificates SET {change} WHERE {where}")
    (failure,) = recheck(store).failures()
    assert reason in "; ".join(failure.reasons)


def test_tables_and_explanations_say_when_sampling_ended_early(request_of):
    store = certified(request_of(**options("anytime")))
    text = summary_table(store).text()
    assert "Sampling ended once the radii 0.05, 0.1 were decided" in text
    found = explain(store, 0)
    assert sum(found.estimation.values()) == found.certificate.n
    lines = "\n".join(found.lines())
    assert "a bound that holds at every number of samples" in lines
    assert f"sampling ended after {found.certificate.n} votes" in lines
    assert found.radius_with_more is None
    assert "Sampling ended" not in summary_table(certified(request_of())).text()


@pytest.mark.parametrize("rule", RULES)
def test_the_cap_is_the_same_from_both_sides(request_of, rule):
    request = request_of(**options(rule))
    config, charge = manifest_of(request, "test").config, request.arithmetic.charge
    assert cap_of(config) == pytest.approx(request.config.largest_radius(charge), rel=1e-6)


def test_a_plan_says_the_most_it_can_cost(request_of):
    staged = plan(settle(request_of(**options("staged")), None), rate=1.0)
    assert staged.samples == 100 + 1000 + 4000 + 3 * 50
    assert "at most" in staged.lines()[0]
    assert "at most" not in plan(settle(request_of(), None), rate=1.0).lines()[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radii": (0.5, 0.25)}, "the radii are 0.5, 0.25"),
        ({"radii": (-1.0,)}, "the radii are -1.0"),
        ({"radii": (float("nan"),)}, "the radii are nan"),
        ({"radii": (5.0,)}, "a radius of 5.0 cannot be certified"),
        ({"radii": (1.9058,)}, "unanimous votes give"),
        ({"stop": "anytime"}, "none is given"),
        ({"stop": "staged"}, "none is given"),
        ({"stop": "whenever"}, "there is no stopping rule"),
        ({"radii": (0.5,), "reserve": 0.0}, "reserve is 0.0"),
        ({"radii": (0.5,), "reserve": 1e-11}, "alpha is"),
        ({"radii": (0.5,), "beta": 1.0}, "beta is 1.0"),
        ({"stop": "anytime-radius", "fraction": 1.5}, "fraction is 1.5"),
        ({"stop": "staged", "radii": (0.5,), "stages": (0,)}, "stages is 0"),
    ],
)
def test_what_no_rule_can_use_is_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        CertifyConfig(sigma=0.5, **changes)


@pytest.mark.parametrize("rule", RULES)
def test_stopping_rules_and_consensus_are_independent_parts(request_of, rule):
    """K-consensus under every rule is certified and can be recomputed."""
    request = request_of(members=4, **options(rule))
    classifiers = classifiers_of(4, consensus=2)
    store = certified(replace(request, classifiers=classifiers))
    assert [record.classifier for record in store.certificates()] == ["mean, 2-consensus"] * 6
    assert recheck(store).ok
