"""The images of a sweep in the store: each stays the image that was counted."""

from __future__ import annotations

import sqlite3

from phalanx.errors import RunError
from phalanx.runs.schema import SampleRecord

SAMPLE_COLUMNS = "image, label, thumbnail, digest"


def add(connection: sqlite3.Connection, record: SampleRecord) -> None:
    """Store an image, or see that it is the one stored, inside the caller's transaction.

    What was not known of it before is added, but for the digest once there are counts: nobody
    could say whether they are of this image.

    Raises:
        RunError: it has another label or other values than the stored one.
    """
    added = connection.execute(
        f"INSERT OR IGNORE INTO samples ({SAMPLE_COLUMNS}) VALUES (?, ?, ?, ?)",
        (int(record.image), record.label, record.thumbnail, record.digest),
    )
    if added.rowcount:
        return
    found = connection.execute("SELECT label, digest FROM samples WHERE image = ?", (record.image,))
    _require_same(record, *found.fetchone())
    connection.execute(
        "UPDATE samples SET thumbnail = COALESCE(thumbnail, ?) WHERE image = ?",
        (record.thumbnail, record.image),
    )
    connection.execute(
        "UPDATE samples SET digest = COALESCE(digest, ?) WHERE image = ? "
        "AND NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.image = samples.image)",
        (record.digest, record.image),
    )


def _require_same(record: SampleRecord, label: int | None, digest: str | None) -> None:
    if label != record.label:
        raise RunError(
            f"image {record.image} had label {label} and now has {record.label}",
            why="a run speaks of one data set",
            repair="give another --out",
        )
    if None not in (digest, record.digest) and digest != record.digest:
        raise RunError(
            f"image {record.image} is not the image this run counted",
            why="its values have another SHA-256 than before",
            repair="restore the data, or give another --out",
        )
