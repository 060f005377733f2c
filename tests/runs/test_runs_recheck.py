"""Every single thing a run says is contradicted once, and found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from runs_helpers import fill, manifest

from phalanx.runs.arithmetic import float32_level, lower_limit, radius_of
from phalanx.runs.imports import import_log
from phalanx.runs.recheck import Outcome, recheck, reproduces
from phalanx.runs.schema import (
    ESTIMATION,
    INVALID,
    SELECTION,
    CertificateRecord,
    ChunkRecord,
    SampleRecord,
)
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict


def edit(run: RunStore, sql: str) -> None:
    with run._database.transaction() as connection:
        connection.execute(sql)


def test_an_honest_run_passes(small: RunStore) -> None:
    report = recheck(small)
    assert report.ok
    assert report.count(Outcome.RECHECKED) == 8
    assert report.as_json()["failures"] == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("radius = radius * 1.000001", "radius is"),
        ("radius = radius * 0.999", "radius is"),
        ("radius = NULL", "there is no radius"),
        ("p_lower = p_lower + 1e-6", "p_lower is"),
        ("p_lower = NULL", "there is no p_lower"),
        ("radius_text = '0.99'", "the run no import"),
        ("n_a = n_a + 1", "n_A 991 of 1000 is stored"),
        ("n = 2000", "n_A 990 of 2000 is stored"),
        ("predicted = 0, correct = 0", "predicted is 0, the votes select 1"),
        ("verdict = 'abstained', predicted = NULL, correct = 0", "gives verified"),
        ("verdict = 'unknown'", "the verdict is unknown"),
        ("correct = 0", "correct is False"),
        ("correct = NULL", "correct is None"),
        ("verdict = 'error'", "still claims something"),
    ],
)
def test_a_changed_certificate_fails(small: RunStore, change: str, reason: str) -> None:
    edit(small, f"UPDATE certificates SET {change} WHERE image = 0 AND classifier = 'mean'")
    report = recheck(small)
    (failure,) = report.failures()
    assert (failure.classifier, failure.image) == ("mean", 0)
    assert reason in "; ".join(failure.reasons)
    assert not report.ok


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("DELETE FROM chunks WHERE phase = 'estimation' AND chunk = 1", "500 of 1000 rows"),
        ("DELETE FROM chunks WHERE phase = 'selection'", "0 of 100 rows"),
        ("UPDATE chunks SET counts = '{\"1\":501}' WHERE chunk = 1", "do not add up"),
        ('UPDATE chunks SET counts = \'{"0":600,"1":-100}\' WHERE chunk = 1', "do not add up"),
        ("UPDATE chunks SET counts = '{\"0\":51,\"1\":49}' WHERE phase = 'selection'", "n_A"),
        ('UPDATE chunks SET counts = \'{"-1":1,"1":499}\' WHERE chunk = 1', "non-finite"),
    ],
)
def test_changed_votes_fail(small: RunStore, sql: str, reason: str) -> None:
    edit(small, sql)
    failures = recheck(small).failures()
    assert failures
    assert all(reason in "; ".join(failure.reasons) for failure in failures)


def test_an_abstention_that_should_be_one_is_found(small: RunStore) -> None:
    edit(
        small,
        "UPDATE certificates SET verdict = 'verified', predicted = 1, correct = 1 WHERE image = 3",
    )
    assert all("gives abstained" in failure.reasons[0] for failure in recheck(small).failures())


def test_a_tie_goes_to_the_lowest_class() -> None:
    store = RunStore.create(None, manifest())
    fill(store, "mean", 0, 1, 990)
    edit(store, "UPDATE chunks SET counts = '{\"1\":50,\"2\":50}' WHERE phase = 'selection'")
    assert recheck(store).ok
    edit(store, "UPDATE chunks SET counts = '{\"0\":50,\"1\":50}' WHERE phase = 'selection'")
    assert not recheck(store).ok


def test_non_finite_votes_are_an_error_and_nothing_else() -> None:
    store = RunStore.create(None, manifest())
    store.commit_chunks(
        [
            ChunkRecord("mean", 0, SELECTION, 0, 100, {1: 100}),
            ChunkRecord("mean", 0, ESTIMATION, 0, 1000, {1: 999, INVALID: 1}),
        ]
    )
    error = CertificateRecord("mean", 0, Verdict.ERROR, None, False, None, None, 1000, reason="NaN")
    store.commit_certificates([error, replace(error, image=1, reason="no such file")])
    report = recheck(store)
    assert report.ok
    assert [finding.outcome for finding in report.findings] == [
        Outcome.RECHECKED,
        Outcome.NOT_RECHECKABLE,
    ]
    assert report.reasons() == {"ended in an error: no such file": 1}


def test_an_edited_identity_is_noticed(small: RunStore) -> None:
    assert small.folder is not None
    path = small.folder / "run.json"
    value = json.loads(path.read_text())
    value["classifiers"][0]["identity"]["reducer"] = "vote"
    path.write_text(json.dumps(value))
    with RunStore.open(small.folder) as edited:
        assert "digest of classifier 'mean'" in recheck(edited).problems[0]


@pytest.mark.parametrize(
    ("where", "missing", "first"),
    [
        ("image = 2", 2, "image 2 of 'mean'"),
        ("image = 1 AND classifier = 'member-0'", 1, "image 1 of 'member-0'"),
    ],
)
def test_a_certificate_left_out_is_noticed(
    small: RunStore, where: str, missing: int, first: str
) -> None:
    edit(small, f"DELETE FROM certificates WHERE {where}")
    report = recheck(small)
    assert not report.ok
    assert f"{missing} certificates of counted images are missing (first: {first})" in str(
        report.problems
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"certificate": "renyi"},
        {"certificate": "double-sampling", "noise": "laplace"},
        {"certificate": "double-sampling", "dimension": 64, "second": "wider"},
        {"bound": "hoeffding"},
        {"stop": "adaptive"},
        {"noise": "exponential"},
        {"noise": "uniform", "certificate": "neyman-pearson"},
        {"norm": "l7"},
        {"arithmetic": "float32"},
    ],
)
def test_other_rules_are_not_pretended_to_be_rechecked(changes: dict[str, str]) -> None:
    store = RunStore.create(None, manifest(**changes))
    fill(store, "mean", 0, 1, 990)
    report = recheck(store)
    assert report.count(Outcome.NOT_RECHECKABLE) == 1
    assert "no independent code" in next(iter(report.reasons()))


def test_the_noise_of_a_radius_was_added_in_float32() -> None:
    """float32(0.12) is 2e-8 below 0.12, and so must the radius be."""
    store = RunStore.create(None, manifest(sigma=0.12))
    fill(store, "mean", 0, 1, 990)
    p_lower = store.certificates()[0].p_lower
    assert p_lower is not None
    edit(store, f"UPDATE certificates SET radius = {radius_of(p_lower, float32_level(0.12))!r}")
    assert recheck(store).ok
    edit(store, f"UPDATE certificates SET radius = {radius_of(p_lower, 0.12)!r}")
    assert not recheck(store).ok


def test_a_bound_may_be_rounded_outward_but_not_inward() -> None:
    """At ten million unanimous votes a bound lowered by 1e-13 is a radius lowered by 6e-9."""
    n = 10_000_000
    store = RunStore.create(None, manifest(n=n))
    store.add_samples([SampleRecord(0, 1)])
    votes = ((SELECTION, 100), (ESTIMATION, n))
    store.commit_chunks([ChunkRecord("mean", 0, phase, 0, k, {1: k}) for phase, k in votes])
    limit = lower_limit(n, n, 0.001)
    p_lower, radius = limit * (1 - 1e-13), radius_of(limit * (1 - 1e-13), 0.5)
    row = CertificateRecord("mean", 0, Verdict.VERIFIED, 1, True, radius, n, n, p_lower)
    store.commit_certificates([row])
    assert radius < radius_of(limit, 0.5) * (1 - 5e-9)
    assert recheck(store).ok
    edit(store, f"UPDATE certificates SET radius = {radius_of(limit, 0.5) * (1 + 5e-9)!r}")
    assert not recheck(store).ok


@pytest.mark.parametrize("key", ["certificate", "bound", "stop", "noise", "norm", "arithmetic"])
def test_a_rule_that_is_not_named_is_not_assumed(key: str) -> None:
    store = RunStore.create(None, manifest(**{key: None}))
    fill(store, "mean", 0, 1, 990)
    assert recheck(store).reasons() == {f"the run does not say its {key}": 1}


def test_an_imported_radius_must_be_its_count_s(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "idx,label,predict,radius,correct,nA\n"
        "0,7,7,1.87,1,99999\n1,7,7,1.86,1,99999\n2,7,7,0.5,1,\n3,7,7,1.96,1,\n"
    )
    report = recheck(import_log(path, None, 0.5, 100_000, 0.001))
    assert [finding.outcome.value for finding in report.findings] == [
        "rechecked",
        "failed",
        "not recheckable",
        "failed",
    ]
    assert "more than the run's n, alpha and sigma can give" in report.failures()[1].reasons[0]


@pytest.mark.parametrize(
    ("text", "radius", "same"),
    [
        ("1.87", 1.8695, True),
        ("1.9", 1.9001, True),
        ("1.9", 1.95, False),
        ("0.0125", 0.012513, True),
        ("0.581586", 0.5815869, True),
        ("0.581587", 0.5815869, True),
        ("0.581588", 0.5815869, False),
        ("5e-05", 0.00005, True),
        ("0.5572415811398998", 0.5572415811398999, True),
    ],
)
def test_published_digits(text: str, radius: float, same: bool) -> None:
    assert reproduces(text, radius) is same
