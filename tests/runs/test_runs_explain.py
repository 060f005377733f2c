from __future__ import annotations

from pathlib import Path

import pytest
from runs_helpers import fill, manifest

from phalanx.errors import RunError
from phalanx.runs.explain import explain
from phalanx.runs.imports import import_log
from phalanx.runs.query import cap_of
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


def test_a_certificate_is_taken_apart(small: RunStore) -> None:
    found = explain(small, 1)
    assert found.share == 0.9
    assert found.runner_up == (0, 100)
    assert found.selection == {1: 90, 0: 10}
    assert found.cap == cap_of(small.manifest.config)
    assert found.certificate.radius is not None
    assert found.radius_with_more is not None
    assert found.certificate.radius < found.radius_with_more < found.cap
    text = "\n".join(found.lines())
    assert "certified within radius 0.5572" in text
    assert "900 of 1000" in text
    assert "10 times --n" in text
    assert found.as_json()["radius_with_10n"] == found.radius_with_more


def test_norm_and_arithmetic_are_said_where_the_run_says_them(small: RunStore) -> None:
    store = RunStore.create(None, manifest(norm=None, arithmetic=None))
    fill(store, "mean", 0, 1, 990)
    assert not any("arithmetic" in line for line in explain(store, 0).lines())
    found = explain(small, 1)
    assert "claim       l2 distance in input units, real arithmetic" in found.lines()
    assert (found.as_json()["norm"], found.as_json()["arithmetic"]) == ("l2", "real")


def test_near_the_cap_more_samples_are_named() -> None:
    store = RunStore.create(None, manifest())
    store.add_samples([SampleRecord(0, 1)])
    votes = [
        ChunkRecord("mean", 0, SELECTION, 0, 100, {1: 100}),
        ChunkRecord("mean", 0, ESTIMATION, 0, 1000, {1: 1000}),
    ]
    store.commit_chunks(votes)
    cap = cap_of(store.manifest.config)
    store.commit_certificates(
        [CertificateRecord("mean", 0, Verdict.VERIFIED, 1, True, cap, 1000, 1000, 0.99)]
    )
    found = explain(store, 0)
    assert found.runner_up is None
    assert "moves the cap" in found.advice[0]


def test_an_abstention_is_explained(small: RunStore) -> None:
    text = "\n".join(explain(small, 3).lines())
    assert "abstained" in text
    assert "no class has more than half" in text


def test_a_wrong_selection_is_named() -> None:
    store = RunStore.create(None, manifest())
    store.add_samples([SampleRecord(0, 1)])
    store.commit_chunks(
        [
            ChunkRecord("mean", 0, SELECTION, 0, 100, {0: 51, 1: 49}),
            ChunkRecord("mean", 0, ESTIMATION, 0, 1000, {1: 600, 0: 400}),
        ]
    )
    store.commit_certificates(
        [CertificateRecord("mean", 0, Verdict.ABSTAINED, None, False, 0.0, 400, 1000, 0.35)]
    )
    found = explain(store, 0)
    assert found.runner_up == (1, 600)
    assert any("larger --n0" in advice for advice in found.advice)


def test_an_error_is_explained() -> None:
    store = RunStore.create(None, manifest())
    store.commit_chunks([ChunkRecord("mean", 0, SELECTION, 0, 100, {1: 99, INVALID: 1})])
    store.commit_certificates(
        [CertificateRecord("mean", 0, Verdict.ERROR, None, False, None, reason="1 had NaN logits")]
    )
    text = "\n".join(explain(store, 0).lines())
    assert "an error, which certifies nothing: 1 had NaN logits" in text
    assert "1 for non-finite logits" in text


def test_an_imported_row_without_counts_is_honest(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    path.write_text("idx\tlabel\tpredict\tradius\tcorrect\n5\t7\t7\t1.87\t1\n")
    found = explain(import_log(path, None, 0.5, 100_000, 0.001), 5)
    assert found.share is None
    assert found.radius_with_more is None
    assert "certified within radius 1.87" in found.lines()[0]
    assert "no counts" in found.advice[0]


def test_what_is_not_there_is_named(small: RunStore) -> None:
    with pytest.raises(RunError, match="no certificate for image 77"):
        explain(small, 77)
    with pytest.raises(RunError, match="no classifier"):
        explain(small, 0, "median")
