"""A full disk, damage, a foreign database: a typed error, and nothing committed is lost."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest
from runs_helpers import fill, manifest

from phalanx.errors import RunError, StorageError
from phalanx.runs.database import Database, typed_errors
from phalanx.runs.files import write_atomically
from phalanx.runs.recheck import recheck
from phalanx.runs.schema import ESTIMATION, ChunkRecord, SampleRecord
from phalanx.runs.store import RunStore

REFUSED = (
    "database or disk is full",
    "attempt to write a readonly database",
    "disk I/O error",
    "unable to open database file",
    "database is locked",
)


def limit_pages(store: RunStore, extra: int) -> None:
    """The disk has room for ``extra`` more pages."""
    database = store._database
    pages = database.query("PRAGMA page_count")[0][0]
    database.query(f"PRAGMA max_page_count = {pages + extra}")


def commit_until_refused(store: RunStore, acknowledged: list[ChunkRecord]) -> None:
    votes = dict.fromkeys(range(40), 1)
    for image in range(10_000):
        records = [ChunkRecord("mean", image, ESTIMATION, chunk, 40, votes) for chunk in range(3)]
        store.commit_chunks(records)
        acknowledged += records


ROOMS = [
    room if room % 7 == 0 else pytest.param(room, marks=pytest.mark.slow) for room in range(50)
]


@pytest.mark.parametrize("room", ROOMS)
def test_a_full_disk_loses_nothing_acknowledged(tmp_path: Path, room: int) -> None:
    store = RunStore.create(tmp_path / "run", manifest())
    limit_pages(store, room)
    acknowledged: list[ChunkRecord] = []
    with pytest.raises(StorageError, match="nothing committed earlier is lost"):
        commit_until_refused(store, acknowledged)
    store.close()
    with RunStore.create(tmp_path / "run", manifest()) as resumed:
        assert resumed.chunks() == acknowledged
        resumed.add_samples([SampleRecord(0)])  # and there is room again: it goes on


@pytest.mark.parametrize("message", REFUSED)
def test_what_storage_refuses_is_a_storage_error(message: str) -> None:
    with pytest.raises(StorageError), typed_errors("run"):
        raise sqlite3.OperationalError(message)


@pytest.mark.parametrize("message", ["database disk image is malformed", "file is not a database"])
def test_damage_is_a_run_error(message: str) -> None:
    with pytest.raises(RunError, match="damaged"), typed_errors("run"):
        raise sqlite3.DatabaseError(message)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(sqlite3.IntegrityError), typed_errors("run"):
        raise sqlite3.IntegrityError("ours")
    with pytest.raises(FileNotFoundError), typed_errors("run"):
        raise FileNotFoundError


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_file_that_is_no_database_is_named(small: RunStore) -> None:
    assert small.folder is not None
    small.close()
    (small.folder / "records.sqlite").write_bytes(b"this is not SQLite" * 100)
    with pytest.raises(RunError, match="damaged"):
        RunStore.open(small.folder)


def test_flipped_pages_are_found_on_opening(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run", manifest()) as store:
        for image in range(200):
            fill(store, "mean", image, 1, 990)
    path = tmp_path / "run" / "records.sqlite"
    content = bytearray(path.read_bytes())
    content[4096 * 8 : 4096 * 10] = b"\xff" * 8192
    path.write_bytes(content)
    with pytest.raises(RunError, match="damaged"):
        RunStore.open(tmp_path / "run")


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE recipes (name TEXT)")
    foreign.close()
    with pytest.raises(RunError, match="not a run's"):
        Database(path, tmp_path)
    reopened = sqlite3.connect(path)
    assert reopened.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
    reopened.close()


def test_missing_records_are_named(small: RunStore) -> None:
    assert small.folder is not None
    small.close()
    (small.folder / "records.sqlite").unlink()
    with pytest.raises(RunError, match="records of"):
        RunStore.open(small.folder)


@pytest.mark.parametrize("pending", [False, True])
def test_a_run_that_may_only_be_read_can_be_read(
    small: RunStore, monkeypatch: pytest.MonkeyPatch, pending: bool
) -> None:
    assert small.folder is not None
    if not pending:
        small.close()  # folds the write-ahead log into the file
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with RunStore.open(small.folder) as store:
        assert len(store.certificates("mean")) == 4
        with pytest.raises(StorageError):
            store.set_meta("seconds", 1)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE chunks SET counts = 'votes'",
        "UPDATE chunks SET counts = '[1]'",
        "UPDATE certificates SET verdict = 'certain'",
    ],
)
def test_damaged_rows_are_named(small: RunStore, sql: str) -> None:
    with small._database.transaction() as connection:
        connection.execute(sql)
    with pytest.raises(RunError, match="stored"):
        recheck(small)
