"""A run's folder: what may be in it, and how processes agree on its manifest."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from phalanx.errors import RunError
from phalanx.runs.claims import require_one_host
from phalanx.runs.database import Database, typed_errors
from phalanx.runs.manifest import (
    FILE_NAME,
    TEMPORARY_PREFIX,
    identity_digest,
    read_manifest,
    require_same,
    write_manifest,
)
from phalanx.runs.provenance import canonical_json
from phalanx.runs.schema import Manifest

RECORDS = "records.sqlite"
WEIGHTS = "weights"
FIRST_STAGE = "pretrain"
"""The run, inside a training, of what was trained before it."""
REPORT = "report.html"
TRAINING = "train"
"""Kind of a run that has weights and no records."""
IDENTITY = "identity"
"""The note under which the records keep the digest of the manifest they were made under."""
ASKED = "asked"
"""The note of a ``--budget``: ``{"images": how many it was for, "seconds": how long}``."""


def make_folder(folder: Path) -> None:
    """Make the folder, or see that only a run (or a run being made) is in it."""
    with typed_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise RunError(f"{folder} is a file", repair="name a folder") from None
        names = {entry.name for entry in folder.iterdir()}
    if FILE_NAME in names:
        return
    ours = (RECORDS, WEIGHTS, FIRST_STAGE, TEMPORARY_PREFIX)
    foreign = sorted(name for name in names if not name.startswith(ours))
    if foreign:
        raise RunError(
            f"{folder} holds something that is not a run: {', '.join(foreign[:3])}",
            why=f"there is no {FILE_NAME} in it",
            repair="name an empty or a new folder",
        )


def agree(folder: Path, asked: Manifest, database: Database) -> Manifest:
    """Write ``run.json``, or agree with the one there; the write lock admits one at a time.

    Raises:
        ConfigurationError: the one there asks for something else.
        RunError: it was edited, is missing beside records, or another machine works on the run.
    """
    with database.transaction() as connection:
        require_one_host(connection, time.time())
        if (folder / FILE_NAME).exists():
            stored = read_manifest(folder)
            require_unedited(folder, stored, database)
            require_same(stored, asked, folder)
            _note_identity(connection, stored)
            return stored
        for table in ("samples", "chunks", "certificates"):
            if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
                raise RunError(
                    f"{folder} holds records but no {FILE_NAME}",
                    why="nobody can say what they were counted on",
                    repair="restore the file, or name a new folder",
                )
        _note_identity(connection, asked)
        write_manifest(folder, asked)
        return asked


def require_unedited(folder: Path, manifest: Manifest, database: Database) -> None:
    """Refuse a ``run.json`` that is not the one under which the records were made.

    Raises:
        RunError: it was edited.
    """
    noted = database.query("SELECT value FROM meta WHERE key = ?", (IDENTITY,))
    if noted and noted[0][0] != canonical_json(identity_digest(manifest)):
        raise RunError(
            f"{folder / FILE_NAME} was edited after the counts were made",
            why="kind, configuration, classifiers or data are not those under which they were made",
            repair="restore the file",
        )


def _note_identity(connection: sqlite3.Connection, manifest: Manifest) -> None:
    """Tie the records to the manifest, so that a ``run.json`` edited later is noticed."""
    text = canonical_json(identity_digest(manifest))
    connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (IDENTITY, text))
