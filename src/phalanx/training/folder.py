"""The run folder of a training: ``run.json``, ``training.jsonl``, ``weights/``, ``state/``.

A training in two stages has the first one's folder, ``pretrain/``, inside.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from phalanx.errors import RunError
from phalanx.models.checkpoint import card_path
from phalanx.runs.database import typed_errors
from phalanx.runs.folder import FIRST_STAGE, make_folder
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
LOG = "training"
"""``training`` is the whole run's name in `TrainingFolder.held`, and its log's."""
ROUNDING = ("precision", "threads")
PATIENCE_SECONDS = 30.0


def group_name(members: Members) -> str:
    """``member-0``, or ``member-0-1-2`` for members that are trained together."""
    return "member-" + "-".join(map(str, members))


@dataclass(frozen=True)
class TrainingFolder:
    """Where everything of one training lies; making it touches no disk."""

    path: Path

    def weights(self, member: int) -> Path:
        """A member's checkpoint; its card lies beside it."""
        return self.path / "weights" / f"member-{member}.safetensors"

    def has(self, members: Iterable[int]) -> bool:
        """Whether the checkpoint of every one of them is there (its card is written last)."""
        return all(card_path(self.weights(member)).is_file() for member in members)

    def first(self) -> TrainingFolder:
        """The run of what is trained before (`phalanx.training.recipe.PretrainPart`)."""
        return TrainingFolder(self.path / FIRST_STAGE)

    def state(self, members: Members) -> Path:
        """The state that training of ``members`` resumes from, gone once they are saved."""
        return self.path / "state" / f"{group_name(members)}.pt"

    def make(self) -> None:
        """Make the folder and what is in it.

        Raises:
            RunError: the folder holds something that is not a run.
            StorageError: the disk refused.
        """
        make_folder(self.path)
        with typed_errors(self.path):
            for name in ("weights", "state"):
                (self.path / name).mkdir(exist_ok=True)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Be the only process at work on ``name``; the system lets go when it ends, however.

        Waits a little for another process: a worker whose parent was killed saves and ends
        after its current step. What a killed process left half written is cleared away.

        Raises:
            RunError: another process is at work.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        with (self.path / "state" / f"{name}.lock").open("w") as file:
            while not _locked(file):
                if time.monotonic() > deadline:
                    raise RunError(
                        f"{name} in {self.path} is in the hands of another process",
                        repair="wait for it, or end it, or choose another --out",
                    )
                time.sleep(0.1)
            for place in (self.path, self.path / "weights", self.path / "state"):
                for leftover in place.glob(f".{name}.*"):
                    leftover.unlink(missing_ok=True)
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
        RunError: ``run.json`` cannot be read.
    """
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
