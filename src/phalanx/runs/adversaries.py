"""Adversarial inputs in a run's database: one a point that an attack broke.

The table is made by the first attack that stores one; a run without attacks has none, and an older
version of phalanx does not look at it. A point's record holds the SHA-256 of its input.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phalanx.errors import RunError
from phalanx.runs.store import RunStore

_TABLE = """
CREATE TABLE IF NOT EXISTS adversaries (
    image INTEGER PRIMARY KEY, shape TEXT NOT NULL, "values" BLOB NOT NULL)
"""


@dataclass(frozen=True)
class Adversary:
    """An adversarial input: the number of its point, and float32 values in input units."""

    image: int
    values: NDArray[np.float32]


def digest(values: NDArray[np.float32]) -> str:
    """SHA-256 hex of an input's float32 values in row-major order."""
    return hashlib.sha256(_bytes(values)).hexdigest()


def keep(store: RunStore, found: Iterable[Adversary]) -> None:
    """Store inputs; one that is there already, from an attempt that was cut off, is replaced."""
    with store._database.transaction() as connection:
        connection.execute(_TABLE)
        for one in found:
            shape = ",".join(map(str, one.values.shape))
            values = zlib.compress(_bytes(one.values))
            connection.execute(
                "INSERT OR REPLACE INTO adversaries VALUES (?, ?, ?)", (one.image, shape, values)
            )


def adversaries(store: RunStore) -> dict[int, Adversary]:
    """Every adversarial input of a run, by the number of its point.

    Raises:
        RunError: one is damaged.
    """
    there = store._database.query(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'adversaries'"
    )
    if not there:
        return {}
    rows = store._database.query('SELECT image, shape, "values" FROM adversaries ORDER BY image')
    return {image: Adversary(image, _values(image, shape, text)) for image, shape, text in rows}


def _values(image: int, shape: str, packed: bytes) -> NDArray[np.float32]:
    try:
        values = np.frombuffer(zlib.decompress(packed), "<f4").astype(np.float32)
        return values.reshape([int(side) for side in shape.split(",")])
    except (zlib.error, ValueError) as error:
        raise RunError(
            f"the adversarial input of point {image} is damaged", why=str(error)
        ) from error


def _bytes(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()
