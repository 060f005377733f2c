from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from runs_helpers import certificate, classifier, fill, manifest

from phalanx.errors import ConfigurationError, RunError
from phalanx.runs.evidence import phases_of
from phalanx.runs.manifest import identity_digest
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


def chunk(number: int = 0, votes: int = 7, image: int = 0) -> ChunkRecord:
    return ChunkRecord("mean", image, ESTIMATION, number, 10, {1: votes, 0: 10 - votes})


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    folder = tmp_path / "run" if request.param == "folder" else None
    with RunStore.create(folder, manifest("mean", "member-0")) as opened:
        yield opened


def test_everything_stored_is_read_back(store: RunStore) -> None:
    sample = SampleRecord(3, 7, b"png")
    error = CertificateRecord("mean", 3, Verdict.ERROR, None, False, None, reason="NaN")
    third = CertificateRecord("member-0", 3, Verdict.VERIFIED, 7, True, 1 / 3, 9, 10, 0.1, 0.2)
    counted = ChunkRecord("mean", 3, SELECTION, 0, 10, {7: 9, INVALID: 1, 2: 0})
    store.add_samples([sample, SampleRecord(4)])
    store.commit_chunks([counted])
    store.commit_certificates([error, third])
    assert store.samples() == {3: sample, 4: SampleRecord(4)}
    assert store.chunks() == [replace(counted, counts={7: 9, INVALID: 1})]
    assert store.certificates() == [error, third]
    assert store.certificates("mean", image=3) == [error]
    assert store.certificates(image=4) == []


def test_a_run_is_found_again_with_its_manifest(tmp_path: Path) -> None:
    asked = replace(manifest(), config={"sigma": 0.5, "shape": (3, 32)}, created="now")
    RunStore.create(tmp_path / "run", asked).close()
    with RunStore.open(tmp_path / "run") as store:
        assert store.manifest == replace(asked, config={"sigma": 0.5, "shape": [3, 32]})
        assert store.folder == tmp_path / "run"


def test_the_same_chunk_is_counted_once(store: RunStore) -> None:
    store.commit_chunks([chunk()])
    store.commit_chunks([chunk(), chunk(1)])
    assert store.chunks() == [chunk(), chunk(1)]
    assert store.rows_counted("mean") == 20


def test_a_chunk_with_another_outcome_is_refused_with_its_whole_call(store: RunStore) -> None:
    store.commit_chunks([chunk()])
    with pytest.raises(RunError, match="counted twice with different outcome"):
        store.commit_chunks([chunk(1), chunk(0, votes=6)])
    assert store.chunks() == [chunk()]


@pytest.mark.parametrize("counts", [{1: 9}, {1: 11, 0: -1}])
def test_votes_must_be_the_rows(store: RunStore, counts: dict[int, int]) -> None:
    with pytest.raises(RunError, match="votes for 10 rows"):
        store.commit_chunks([ChunkRecord("mean", 0, ESTIMATION, 0, 10, counts)])


def test_an_unknown_classifier_is_refused(store: RunStore) -> None:
    with pytest.raises(RunError, match="no classifier called 'median'"):
        store.commit_chunks([replace(chunk(), classifier="median")])


@pytest.mark.parametrize("radius", [float("nan"), float("inf"), -1.0])
def test_what_is_no_radius_is_refused(store: RunStore, radius: float) -> None:
    with pytest.raises(RunError, match="radius"):
        store.commit_certificates([replace(certificate("mean", 0, 1, 990), radius=radius)])


def test_a_certificate_is_never_replaced(store: RunStore) -> None:
    first = certificate("mean", 0, 1, 990)
    store.commit_certificates([first])
    store.commit_certificates([replace(first, seconds=99.0)])
    with pytest.raises(RunError, match="certified twice"):
        store.commit_certificates([certificate("mean", 1, 1, 900), replace(first, radius=0.5)])
    assert store.certificates() == [first]


def test_a_label_is_kept_and_a_picture_added(store: RunStore) -> None:
    store.add_samples([SampleRecord(0, 3)])
    store.add_samples([SampleRecord(0, 3, b"png")])
    assert store.samples()[0].thumbnail == b"png"
    with pytest.raises(RunError, match="had label 3 and now has 4"):
        store.add_samples([SampleRecord(1, 1), SampleRecord(0, 4)])
    assert set(store.samples()) == {0}


IMAGE, ANOTHER = "1" * 64, "2" * 64


def test_a_run_goes_on_with_the_images_it_counted(store: RunStore) -> None:
    store.add_samples([SampleRecord(7, 3, digest=IMAGE)])
    store.add_samples([SampleRecord(7, 3, digest=IMAGE), SampleRecord(7, 3)])
    with pytest.raises(RunError, match="image 7 is not the image this run counted"):
        store.add_samples([SampleRecord(8, 1, digest=IMAGE), SampleRecord(7, 3, digest=ANOTHER)])
    assert store.samples() == {7: SampleRecord(7, 3, digest=IMAGE)}
    assert store.digests() == {7: IMAGE}


def test_counts_are_not_said_to_be_of_an_image_that_came_later(store: RunStore) -> None:
    store.add_samples([SampleRecord(0), SampleRecord(1)])
    store.commit_chunks([chunk()])
    store.add_samples([SampleRecord(0, digest=IMAGE), SampleRecord(1, digest=IMAGE)])
    assert store.digests() == {1: IMAGE}


def test_the_digest_of_a_run_is_of_its_images() -> None:
    found = set()
    for image in (None, IMAGE, ANOTHER):
        with RunStore.create(None, manifest()) as run:
            run.add_samples([SampleRecord(0, 1, digest=image)])
            found.add(run.digest())
    assert len(found) == 3


def test_phases_add_their_chunks(store: RunStore) -> None:
    fill(store, "mean", 5, 1, 990)
    found = phases_of(store.chunks(5))
    assert {key: (phase.rows, phase.counts) for key, phase in found.items()} == {
        ("mean", SELECTION): (100, {1: 90, 0: 10}),
        ("mean", ESTIMATION): (1000, {1: 990, 0: 10}),
    }
    assert phases_of(store.chunks(6)) == {}


def test_done_means_by_every_classifier(store: RunStore) -> None:
    fill(store, "mean", 0, 1, 990)
    assert store.finished() == set()
    fill(store, "member-0", 0, 1, 900)
    assert store.finished() == {0}


def test_notes_are_kept(store: RunStore) -> None:
    assert store.get_meta("seconds") is None
    store.set_meta("seconds", {"wall": 1.5})
    store.set_meta("seconds", {"wall": 2.5})
    assert store.get_meta("seconds") == {"wall": 2.5}


def test_the_digest_knows_no_order_and_no_time(tmp_path: Path) -> None:
    one = RunStore.create(None, manifest("mean", "member-0"))
    two = RunStore.create(tmp_path / "run", manifest("mean", "member-0"))
    for image in (0, 1):
        fill(one, "mean", image, 1, 990)
    for image in (1, 0):
        fill(two, "mean", image, 1, 990)
    assert one.digest() == two.digest()
    two.commit_certificates([certificate("member-0", 0, 1, 900)])
    assert one.digest() != two.digest()
    one.commit_certificates([replace(certificate("member-0", 0, 1, 900), seconds=77.0)])
    assert one.digest() == two.digest()
    two.close()


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    RunStore.create(tmp_path / "run", manifest()).close()
    asked = manifest(sigma=0.25, extra=1)
    with pytest.raises(ConfigurationError) as refusal:
        RunStore.create(tmp_path / "run", asked)
    assert "config.sigma: 0.5 -> 0.25" in str(refusal.value)
    assert "config.extra: (absent) -> 1" in str(refusal.value)


def test_other_classifiers_or_data_are_refused(tmp_path: Path) -> None:
    RunStore.create(tmp_path / "run", manifest()).close()
    renamed = replace(classifier("mean", primary=True), digest="0" * 64)
    for asked in (
        replace(manifest(), classifiers=(renamed,)),
        manifest("mean", "member-0"),
        replace(manifest(), data={"name": "mnist"}),
        replace(manifest(), kind="verify"),
    ):
        with pytest.raises(ConfigurationError, match="stored -> asked"):
            RunStore.create(tmp_path / "run", asked)


def test_another_order_or_another_first_classifier_is_refused(tmp_path: Path) -> None:
    stored = manifest("mean", "vote")
    RunStore.create(tmp_path / "run", stored).close()
    first, second = stored.classifiers
    for classifiers, difference in (
        ((second, first), r'order: \["mean", "vote"\] -> \["vote", "mean"\]'),
        (
            (replace(first, primary=False), replace(second, primary=True)),
            r'primary: \["mean"\] -> \["vote"\]',
        ),
    ):
        with pytest.raises(ConfigurationError, match=difference):
            RunStore.create(tmp_path / "run", replace(stored, classifiers=classifiers))


def test_a_manifest_edited_after_the_counts_is_refused(small: RunStore) -> None:
    assert small.folder is not None
    path = small.folder / "run.json"
    value = json.loads(path.read_text())
    value["config"]["sigma"] = 0.25
    path.write_text(json.dumps(value))
    with pytest.raises(RunError, match=r"run\.json was edited after the counts were made"):
        RunStore.open(small.folder)
    for asked in (small.manifest, manifest("mean", "member-0", sigma=0.25)):
        with pytest.raises(RunError, match=r"run\.json was edited"):
            RunStore.create(small.folder, asked)


def test_provenance_may_differ_when_joining(tmp_path: Path) -> None:
    RunStore.create(tmp_path / "run", manifest()).close()
    asked = replace(manifest(), command="another", created="later", environment={"cores": 1})
    with RunStore.create(tmp_path / "run", asked) as store:
        assert store.manifest.command == "phalanx certify"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"not a run: thesis\.tex"):
        RunStore.create(tmp_path, manifest())
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match="is a file"):
            RunStore.create(folder, manifest())


def test_records_without_a_manifest_are_not_adopted(small: RunStore) -> None:
    assert small.folder is not None
    (small.folder / "run.json").unlink()
    with pytest.raises(RunError, match=r"records but no run\.json"):
        RunStore.create(small.folder, manifest(sigma=0.25))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', '{"schema": "x"}'])
def test_a_damaged_manifest_is_named(small: RunStore, content: str) -> None:
    assert small.folder is not None
    (small.folder / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json"):
        RunStore.open(small.folder)


def test_a_newer_schema_is_refused(small: RunStore) -> None:
    assert small.folder is not None
    path = small.folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    with pytest.raises(RunError, match="newer phalanx"):
        RunStore.open(small.folder)


def test_a_newer_record_format_is_refused(small: RunStore) -> None:
    assert small.folder is not None
    small.close()
    connection = sqlite3.connect(small.folder / "records.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(RunError, match="newer phalanx"):
        RunStore.open(small.folder)


def test_an_older_record_format_is_refused(small: RunStore) -> None:
    assert small.folder is not None
    small.close()
    connection = sqlite3.connect(small.folder / "records.sqlite")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(RunError, match="unreleased phalanx"):
        RunStore.open(small.folder)


def test_what_is_no_run_cannot_be_opened(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RunError, match="is not a run"):
            RunStore.open(folder)


def test_a_folder_whose_weights_came_first_becomes_a_run(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    with RunStore.create(tmp_path, manifest()) as store:
        assert store.get_meta("identity") == identity_digest(store.manifest)
