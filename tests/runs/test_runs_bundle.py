from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from runs_helpers import manifest

from phalanx.errors import RunError
from phalanx.runs.bundle import export_bundle, open_bundle, open_run
from phalanx.runs.query import summarise
from phalanx.runs.recheck import recheck
from phalanx.runs.schema import SampleRecord
from phalanx.runs.store import RunStore

REPORT = "<p>what is proven</p>"


@pytest.fixture
def bundle(small: RunStore, tmp_path: Path) -> Path:
    return export_bundle(small, tmp_path / "small.zip", REPORT)


def repack(bundle: Path, changes: dict[str, bytes | None], **options: int) -> Path:
    """The same archive with some files changed, added, or (None) left out."""
    with zipfile.ZipFile(bundle) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content = {name: data for name, data in (content | changes).items() if data is not None}
    with zipfile.ZipFile(bundle, "w", **options) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return bundle


def test_a_bundle_is_the_run(small: RunStore, bundle: Path) -> None:
    with open_run(bundle) as run:
        assert run.digest() == small.digest()
        assert run.manifest == small.manifest
        assert recheck(run).ok
        assert len(recheck(run).findings) == 8


def test_a_run_folder_opens_the_same_way(small: RunStore) -> None:
    assert small.folder is not None
    with open_run(small.folder) as run:
        assert run.digest() == small.digest()


def test_the_digests_of_images_travel(tmp_path: Path) -> None:
    with RunStore.create(None, manifest()) as run:
        run.add_samples([SampleRecord(0, 1, digest="1" * 64), SampleRecord(1)])
        path = export_bundle(run, tmp_path / "run.zip")
        with open_bundle(path) as opened:
            assert opened.samples() == run.samples()
            assert opened.digest() == run.digest()


def test_equal_runs_make_equal_bundles(small: RunStore, bundle: Path) -> None:
    again = export_bundle(small, bundle.with_name("again.zip"), REPORT)
    assert again.read_bytes() == bundle.read_bytes()


def test_the_report_travels(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        assert b"what is proven" in archive.read("report.html")
        assert "report.html" in archive.read("SHA256SUMS").decode()


def test_missing_images_are_known_to_the_reviewer(small: RunStore, tmp_path: Path) -> None:
    small.set_meta("asked", {"images": 40, "seconds": 4.0})
    with open_run(export_bundle(small, tmp_path / "early.zip")) as run:
        assert summarise(run).images_asked == 40


@pytest.mark.parametrize(
    "name", ["run.json", "counts.jsonl", "certificates.jsonl", "samples.jsonl"]
)
def test_a_changed_file_is_refused(bundle: Path, name: str) -> None:
    with pytest.raises(RunError, match=f"{name} in .* is not the file that was bundled"):
        open_bundle(repack(bundle, {name: b"{}\n"}))


@pytest.mark.parametrize("name", ["run.json", "SHA256SUMS", "counts.jsonl"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    with pytest.raises(RunError, match=name):
        open_bundle(repack(bundle, {name: None}))


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "weights/model.pt"])
def test_foreign_files_are_refused(bundle: Path, name: str) -> None:
    with pytest.raises(RunError, match="not expected"):
        open_bundle(repack(bundle, {name: b"x"}))


def test_a_bomb_is_refused_before_it_is_unpacked(bundle: Path) -> None:
    bomb = repack(bundle, {"report.html": bytes(1 << 24)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(RunError, match="unpacks to"):
        open_bundle(bomb, most_bytes=1 << 20)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x80\x04\x95"])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    for opener in (open_run, open_bundle):
        with pytest.raises(RunError):
            opener(path)


def test_a_truncated_bundle_is_refused(bundle: Path) -> None:
    content = bundle.read_bytes()
    bundle.write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError):
        open_bundle(bundle)


def test_a_flipped_byte_is_noticed(bundle: Path) -> None:
    content = bytearray(bundle.read_bytes())
    content[len(content) // 3] ^= 0xFF
    bundle.write_bytes(content)
    with pytest.raises(RunError):
        open_bundle(bundle)


def test_what_does_not_exist_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing of that name"):
        open_run(tmp_path / "nothing")
    with pytest.raises(RunError, match="no bundle"):
        open_bundle(tmp_path / "nothing")
