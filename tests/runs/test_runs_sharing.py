"""Several processes, one run: nothing lost, nothing twice, a dead one's work taken over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs_helpers import certificate, manifest

from phalanx.errors import RunError, StorageError
from phalanx.runs import claims
from phalanx.runs.schema import ESTIMATION, ChunkRecord
from phalanx.runs.store import RunStore

WRITERS = 16
CONTEXT = multiprocessing.get_context("spawn")


def record(image: int, number: int) -> ChunkRecord:
    return ChunkRecord("mean", image, ESTIMATION, number, 10, {number % 10: 10})


def write(folder: Path, writer: int, records: int) -> None:
    """One writer; neighbours write half of the same chunks."""
    with RunStore.create(folder, manifest()) as store:
        for number in range(0, records, 10):
            block = range(number, number + 10)
            store.commit_chunks([record(writer, n) for n in block if n % 2])
            store.commit_chunks([record(writer - writer % 2, n) for n in block])
            store.commit_chunks([record(writer, n) for n in block])


@pytest.mark.parametrize("records", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_sixteen_writers_lose_nothing(tmp_path: Path, records: int) -> None:
    folder = tmp_path / "run"
    writers = [
        CONTEXT.Process(target=write, args=(folder, number, records)) for number in range(WRITERS)
    ]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * WRITERS
    with RunStore.open(folder) as store:
        expected = [record(image, number) for image in range(WRITERS) for number in range(records)]
        assert store.chunks() == expected


def test_a_killed_writer_loses_at_most_what_was_in_flight(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from runs_helpers import manifest\n"
        "from test_runs_sharing import record\n"
        "from phalanx.runs.store import RunStore\n"
        "store = RunStore.create(Path(sys.argv[1]), manifest())\n"
        "for n in range(10**6):\n"
        "    store.commit_chunks([record(0, n)])\n"
        "    print(n, flush=True)\n"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    for patience in (1, 7, 40):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "run")], stdout=subprocess.PIPE, env=here
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(patience)]
            process.send_signal(signal.SIGKILL)
            acknowledged = [int(line) for line in [*lines, *process.stdout] if line.endswith(b"\n")]
        with RunStore.open(tmp_path / "run") as store:
            stored = [chunk.chunk for chunk in store.chunks()]
        assert stored == list(range(len(stored)))
        assert len(stored) >= max(acknowledged) + 1


@pytest.fixture
def owners() -> Iterator[list[str]]:
    """Two that work at the same time."""
    found = [claims.owner_id(), claims.owner_id()]
    yield found
    for owner in found:
        claims.forget(owner)


def test_claims_are_disjoint_and_in_order(small: RunStore, owners: list[str]) -> None:
    one, other = owners
    assert small.claim([9, 8, 7], one, count=2) == [9, 8]
    assert small.claim([9, 8, 7], other, count=2) == [7]
    assert small.claim([9, 8, 7], one) == []


def test_finished_images_are_not_claimed(small: RunStore, owners: list[str]) -> None:
    assert small.claim(range(6), owners[0], count=9) == [4, 5]


def test_an_image_is_free_again_after_release(small: RunStore, owners: list[str]) -> None:
    small.claim([9], owners[0])
    small.release(owners[0])
    assert small.claim([9], owners[1]) == [9]


def test_finishing_an_image_ends_its_claim(small: RunStore, owners: list[str]) -> None:
    small.claim([9], owners[0])
    small.commit_certificates([certificate(n, 9, 1, 990) for n in ("mean", "member-0")])
    assert small._database.query("SELECT * FROM claims") == []
    assert small.claim([9], owners[1]) == []


def test_a_silent_owner_is_replaced(
    small: RunStore, owners: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, other = owners
    now = time.time()
    small.claim([9], silent)
    monkeypatch.setattr(time, "time", lambda: now + 100)
    assert small.claim([9], other) == []
    small.heartbeat(silent)
    monkeypatch.setattr(time, "time", lambda: now + 200)
    assert small.claim([9], other) == []
    monkeypatch.setattr(time, "time", lambda: now + 230)
    assert small.claim([9], other) == [9]


def test_a_dead_process_is_replaced_at_once(small: RunStore, owners: list[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        small.claim([9], f"{claims.process_id(process.pid)}:0")
        assert small.claim([9], owners[0]) == []
        process.kill()
        process.wait()
        assert small.claim([9], owners[0]) == [9]


def test_a_claim_of_one_s_own_that_was_not_given_back_is_free(
    small: RunStore, owners: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook's process lives on after a sweep failed in it."""

    def refused(connection: sqlite3.Connection, owner: str) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    failed, again = owners
    small.claim([9], failed)
    monkeypatch.setattr(claims, "release", refused)
    with pytest.raises(StorageError):
        small.release(failed)
    assert small._database.query("SELECT owner FROM claims") == [(failed,)]
    assert small.claim([9], again) == [9]


def test_every_attempt_is_another_owner(owners: list[str]) -> None:
    assert len(set(owners)) == 2
    assert not any(map(claims.is_dead, owners))
    claims.forget(owners[0])
    assert claims.is_dead(owners[0])


def test_a_reused_process_number_is_another_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        host, number, start = claims.process_id(process.pid).rsplit(":", 2)
        assert host == socket.gethostname()
        assert not claims.is_dead(f"{host}:{number}:{start}:0")
        if sys.platform == "linux":
            assert claims.is_dead(f"{host}:{number}:{int(start) - 1}:0")
        process.kill()


@pytest.mark.parametrize("owner", ["elsewhere:1:0:0", "no owner at all", "host:x:0:0"])
def test_nothing_is_known_of_others(owner: str) -> None:
    assert not claims.is_dead(owner)


def test_a_run_is_not_shared_with_another_machine(
    small: RunStore, owners: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert small.folder is not None
    now = time.time()
    small.heartbeat("elsewhere:1:0:0")
    for attempt in (
        lambda: RunStore.create(small.folder, small.manifest),
        lambda: small.claim([9], owners[0]),
    ):
        with pytest.raises(RunError, match="elsewhere works on this run"):
            attempt()
    RunStore.open(small.folder).close()
    monkeypatch.setattr(time, "time", lambda: now + 130)
    RunStore.create(small.folder, small.manifest).close()
    assert small.claim([9], owners[0]) == [9]


def test_creators_at_once_agree_on_one_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    creators = [CONTEXT.Process(target=write, args=(folder, 0, 10)) for _ in range(8)]
    for process in creators:
        process.start()
    for process in creators:
        process.join()
    assert [process.exitcode for process in creators] == [0] * 8
    left = {path.name.removesuffix("-wal").removesuffix("-shm") for path in folder.iterdir()}
    assert left == {"run.json", "records.sqlite"}
    check = sqlite3.connect(folder / "records.sqlite")
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()
