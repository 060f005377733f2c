"""The run folder of a training: ``run.json``, ``training.jsonl``, ``weights/``, ``state/``."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from phalanx.errors import RunError
from phalanx.runs.database import typed_errors
from phalanx.runs.folder import make_folder
from phalanx.runs.manifest import (
    FILE_NAME,
    read_manifest,
    require_same,
    write_atomically,
    write_manifest,
)
from phalanx.runs.schema import Manifest
from phalanx.training.events import EpochEnd, Event, Members

KIND = "train"
ROUNDING = ("precision", "threads")
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class TrainingFolder:
    """Where everything of one training lies; making it touches no disk."""

    path: Path

    def weights(self, member: int) -> Path:
        """A member's checkpoint; its card lies beside it."""
        return self.path / "weights" / f"member-{member}.safetensors"

    def state(self, members: Members) -> Path:
        """The state that training of ``members`` resumes from, gone once they are saved."""
        return self.path / "state" / f"member-{_joined(members)}.pt"

    @contextmanager
    def held(self, members: Members) -> Iterator[None]:
        """Hold the members' training; the system lets go when the process ends, however.

        Waits a little for another process: a worker whose parent was killed saves and ends
        after its current step.

        Raises:
            RunError: another process is training them.
        """
        lock = self.path / "state" / f"member-{_joined(members)}.lock"
        deadline = time.monotonic() + PATIENCE_SECONDS
        with lock.open("w") as file:
            while not _locked(file):
                if time.monotonic() > deadline:
                    raise RunError(
                        f"member {_joined(members)} in {self.path} is being trained already",
                        repair="wait for the other process, or end it, or choose another --out",
                    )
                time.sleep(0.1)
            yield


class TrainingLog:
    """``training.jsonl``: one row an epoch and member, each once, however often it was resumed.

    One process writes it, whole, from the rows it is told; a resumed member tells its earlier
    rows again, so nothing is lost with a process that was killed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[tuple[Members, int], dict[str, Any]] = {}

    def __call__(self, event: Event) -> None:
        """Take note of an event (only epochs are logged)."""
        if isinstance(event, EpochEnd):
            self._rows[event.members, event.row["epoch"]] = event.row
            lines = (json.dumps(self._rows[key], allow_nan=False) for key in sorted(self._rows))
            write_atomically(self.path, ("\n".join(lines) + "\n").encode())


def open_run(path: Path, asked: Manifest) -> Manifest:
    """Write ``run.json``, or continue the run there under the rounding it began with.

    ``precision`` and ``threads`` of the stored configuration win over what this machine would
    choose now, because they decide how sums are rounded; everything else must agree.

    Raises:
        ConfigurationError: another recipe or other data; the message lists the differences.
        RunError: the folder holds something else, or ``run.json`` cannot be read.
    """
    make_folder(path)
    with typed_errors(path):
        for name in ("weights", "state"):
            (path / name).mkdir(exist_ok=True)
    if not (path / FILE_NAME).exists():
        write_manifest(path, asked)
    stored = read_manifest(path)
    kept = {key: stored.config[key] for key in ROUNDING if key in stored.config}
    require_same(stored, replace(asked, config={**asked.config, **kept}), path)
    return stored


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _joined(members: Members) -> str:
    return "-".join(map(str, members))
