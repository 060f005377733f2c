from __future__ import annotations

from dataclasses import replace

import pytest
from runs_helpers import CERTIFIED, certificate, fill, manifest

from phalanx.errors import ParameterError, RequirementUnmet, RunError
from phalanx.runs.compare import Side, compare
from phalanx.runs.query import default_radii, run_json, summarise
from phalanx.runs.require import check
from phalanx.runs.schema import CertificateRecord, SampleRecord
from phalanx.runs.statistics import clopper_pearson
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict


def test_a_summary_counts_every_image(small: RunStore) -> None:
    summary = summarise(small)
    assert summary.classifier == "mean"
    assert (summary.images, summary.abstained, summary.errors) == (4, 1, 0)
    assert summary.samples == 4 * 1100
    accuracy = {"0": 0.5, "0.25": 0.5, "0.5": 0.5, "0.75": 0.25, "1": 0.0}
    assert summary.certified_accuracy == accuracy
    assert summary.clean_accuracy == 0.5
    assert summary.certified_fraction["0.75"] == 0.5
    assert summary.intervals["0.75"] == clopper_pearson(1, 4)
    radii = CERTIFIED[990][1] + CERTIFIED[900][1]
    assert summary.average_certified_radius == pytest.approx(radii / 4)
    assert summary.at(CERTIFIED[900][1]).value == 0.5
    assert summary.at(CERTIFIED[900][1] + 1e-12).value == 0.25


def test_json_has_the_fields_of_every_run(small: RunStore) -> None:
    value = run_json(small)
    keys = {
        "certified_accuracy",
        "average_certified_radius",
        "clean_accuracy",
        "abstained",
        "errors",
        "images",
        "samples",
    }
    assert keys <= value.keys()
    assert value["classifiers"].keys() == {"mean", "member-0"}
    assert keys <= value["classifiers"]["member-0"].keys()
    assert value["classifiers"]["mean"]["certified_accuracy"] == value["certified_accuracy"]


def test_without_labels_accuracy_is_absent() -> None:
    store = RunStore.create(None, manifest())
    store.add_samples([SampleRecord(0), SampleRecord(1)])
    store.commit_certificates(
        [
            CertificateRecord("mean", 0, Verdict.VERIFIED, 3, None, 0.6, 950, 1000, 0.9),
            CertificateRecord("mean", 1, Verdict.ABSTAINED, None, None, 0.0, 500, 1000, 0.4),
        ]
    )
    summary = summarise(store, radii=[0, 0.5, 1])
    assert summary.certified_accuracy is None
    assert summary.clean_accuracy is None
    assert summary.average_certified_radius is None
    assert summary.certified_fraction == {"0": 0.5, "0.5": 0.5, "1": 0.0}
    assert summary.intervals["0.5"] == clopper_pearson(1, 2)
    with pytest.raises(ParameterError, match="no labels"):
        check(summary, "certified@0.5>=0.1")


@pytest.mark.parametrize("correct", [None, False])
def test_errors_do_not_decide_whether_images_have_labels(correct: bool | None) -> None:
    failed = CertificateRecord("mean", 1, Verdict.ERROR, None, correct, None, reason="NaN")
    unread = CertificateRecord("mean", 2, Verdict.ERROR, None, correct, None, reason="no file")
    unlabelled = CertificateRecord("mean", 0, Verdict.VERIFIED, 3, None, 0.6, 950, 1000, 0.9)
    store = RunStore.create(None, manifest())
    store.add_samples([SampleRecord(0), SampleRecord(1)])
    store.commit_certificates([unlabelled, failed, unread])
    summary = summarise(store)
    assert (summary.certified_accuracy, summary.clean_accuracy) == (None, None)
    assert summary.certified_fraction["0.5"] == pytest.approx(1 / 3)
    other = RunStore.create(None, manifest())
    fill(other, "mean", 0, 1, 990)
    other.add_samples([SampleRecord(1, 1)])
    other.commit_certificates([failed, unread])
    assert summarise(other).clean_accuracy == pytest.approx(1 / 3)


def test_images_that_time_left_out_are_named(small: RunStore) -> None:
    assert "images_asked" not in run_json(small)
    small.set_meta("asked", {"images": 4, "seconds": 4.0})
    assert "images_asked" not in run_json(small)
    small.set_meta("asked", {"images": 40, "seconds": 4.0})
    assert run_json(small)["images_asked"] == 40


def test_an_error_is_counted_and_certifies_nothing() -> None:
    store = RunStore.create(None, manifest())
    fill(store, "mean", 0, 1, 990)
    failed = CertificateRecord("mean", 1, Verdict.ERROR, None, False, None, reason="NaN")
    store.commit_certificates([failed])
    summary = summarise(store)
    assert (summary.images, summary.errors, summary.abstained) == (2, 1, 0)
    assert summary.clean_accuracy == 0.5


def test_radii_reach_to_the_cap(small: RunStore) -> None:
    assert default_radii(small) == (0.0, 0.25, 0.5, 0.75, 1.0)
    wide = RunStore.create(None, manifest(sigma=12.0))
    assert len(default_radii(wide)) <= 17


def test_questions_without_an_answer_are_refused(small: RunStore) -> None:
    with pytest.raises(RunError, match="one of mean, member-0"):
        summarise(small, "median")
    with pytest.raises(ParameterError, match="no radius"):
        summarise(small, radii=[-1.0])
    with pytest.raises(RunError, match="no certificate yet"):
        summarise(RunStore.create(None, manifest()))
    with pytest.raises(RunError, match="certifies nothing"):
        summarise(RunStore.create(None, manifest().__class__("train", "", {}, ())))


def test_only_the_same_images_are_compared() -> None:
    one, two, unknown = (RunStore.create(None, manifest()) for _ in range(3))
    for image in range(3):
        for run, digest in ((one, "1" * 64), (two, "21"[image < 2] * 64), (unknown, None)):
            run.add_samples([SampleRecord(image, 1, digest=digest)])
            fill(run, "mean", image, 1, 990)
    assert compare(Side.of(one), Side.of(unknown)).images == 3
    with pytest.raises(RunError, match="image 2 has another digest in one than in two"):
        compare(Side.of(one, name="one"), Side.of(two, name="two"))


def test_a_comparison_is_paired(small: RunStore) -> None:
    found = compare(Side.of(small), Side.of(small, "member-0"))
    assert (found.a, found.b, found.images) == ("small:mean", "small:member-0", 4)
    row = {row.radius: row for row in found.rows}[0.5]
    assert (row.a, row.b, row.difference) == (0.5, 0.25, 0.25)
    assert (row.only_a, row.only_b, row.both, row.neither) == (1, 0, 1, 2)
    first, second, difference, (low, high) = found.average_certified_radius
    assert difference == pytest.approx(first - second)
    assert low <= difference <= high
    assert found.as_json()["certified_accuracy"]["0.5"]["only_a"] == 1


def test_a_comparison_speaks_of_common_images_only(small: RunStore) -> None:
    other = RunStore.create(None, manifest())
    fill(other, "mean", 3, 1, 990)
    fill(other, "mean", 77, 1, 990)
    found = compare(Side.of(small), Side.of(other))
    assert (found.images, found.left_out) == (1, 4)


def test_runs_of_other_images_cannot_be_compared(small: RunStore) -> None:
    other = RunStore.create(None, manifest())
    fill(other, "mean", 77, 1, 990)
    with pytest.raises(RunError, match="no image in common"):
        compare(Side.of(small), Side.of(other))
    fill(other, "mean", 0, 0, 990)
    with pytest.raises(RunError, match="another label"):
        compare(Side.of(small), Side.of(other))


@pytest.mark.parametrize(
    ("data", "difference"),
    [
        ({"name": "mnist"}, "name digits and mnist"),
        ({"split": "train"}, "split test and train"),
        ({"shape": [1, 28, 28]}, r"shape \[1, 8, 8\] and \[1, 28, 28\]"),
        ({"checksums": {"images": "b", "more": "c"}}, "'images' has other checksums"),
    ],
)
def test_runs_of_other_data_cannot_be_compared(data: dict[str, object], difference: str) -> None:
    recorded = {"name": "digits", "split": "test", "shape": [1, 8, 8], "checksums": {"images": "a"}}
    one, two, imported = (
        RunStore.create(None, replace(manifest(), data=value))
        for value in (recorded, recorded | data, {})
    )
    for store in (one, two, imported):
        fill(store, "mean", 0, 1, 990)
    with pytest.raises(RunError, match=difference):
        compare(Side.of(one), Side.of(two))
    assert compare(Side.of(one), Side.of(imported)).images == 1


@pytest.fixture
def hundred() -> RunStore:
    store = RunStore.create(None, manifest())
    store.add_samples([SampleRecord(image, 1) for image in range(100)])
    votes = [990] * 70 + [500] * 30
    store.commit_certificates(
        [certificate("mean", image, 1, count) for image, count in enumerate(votes)]
    )
    return store


def test_a_requirement_is_judged_on_the_lower_limit(hundred: RunStore) -> None:
    summary = summarise(hundred)
    low = summary.at(0.5).low
    assert 0.59 < low < 0.61
    check(summary, "certified@0.5>=0.59")
    check(summary, "point:certified@0.5>=0.7")
    check(summary, "clean >= 0.59")
    check(summary, "acr>=0.5")
    for unmet in (
        "certified@0.5>=0.62",
        "point:certified@0.5>0.7",
        "certified@1>=0.1",
        "acr>=0.69",
    ):
        with pytest.raises(RequirementUnmet, match="does not hold"):
            check(summary, unmet)


@pytest.mark.parametrize(
    "text", ["", "certified>=0.5", "certified@0.5", "certified@0.5<=0.6", "certified@.>=1", "x"]
)
def test_what_is_no_requirement_is_refused(hundred: RunStore, text: str) -> None:
    with pytest.raises(ParameterError, match="not a requirement"):
        check(summarise(hundred), text)
