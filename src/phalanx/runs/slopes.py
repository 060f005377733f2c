"""Ballots and slopes in the store: what a gradient certificate rests on beside its counts."""

from __future__ import annotations

import math
import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phalanx.errors import RunError
from phalanx.runs.schema import BallotRecord, SlopeRecord

BALLOT_COLUMNS = ", ".join(field.name for field in fields(BallotRecord))
SLOPE_COLUMNS = ", ".join(field.name for field in fields(SlopeRecord))
_BALLOT_KEY, _SLOPE_KEY = ("classifier", "image", "phase", "chunk"), ("classifier", "image")
_DTYPE = "<i4"


def packed(votes: NDArray[np.int32]) -> bytes:
    """One chunk's votes ``(rows,)`` as they are stored.

    >>> unpacked(packed(np.array([7, -1, 7], dtype=np.int32))).tolist()
    [7, -1, 7]
    """
    return zlib.compress(votes.astype(_DTYPE).tobytes())


def unpacked(ballots: bytes) -> NDArray[np.int32]:
    """The votes of `packed`.

    Raises:
        RunError: the stored bytes are damaged.
    """
    try:
        return np.frombuffer(zlib.decompress(ballots), dtype=_DTYPE).astype(np.int32)
    except (zlib.error, ValueError) as error:
        raise RunError("stored ballots are damaged", why=str(error)) from error


def add_ballots(connection: sqlite3.Connection, records: Iterable[BallotRecord]) -> None:
    """Store ballots, or see that they are the stored ones, inside the caller's transaction.

    Raises:
        RunError: a row of noise cast another vote before.
    """
    _add(connection, "ballots", BALLOT_COLUMNS, _BALLOT_KEY, [astuple(one) for one in records])


def add_slopes(connection: sqlite3.Connection, records: Iterable[SlopeRecord]) -> None:
    """Store slopes, or see that they are the stored ones, inside the caller's transaction.

    Raises:
        RunError: the noise said something else before, or the numbers are not finite.
    """
    rows = [astuple(one) for one in records]
    if not all(math.isfinite(value) for row in rows for value in row[2:]):
        raise RunError("a slope is not finite", why="sums over noise are")
    _add(connection, "slopes", SLOPE_COLUMNS, _SLOPE_KEY, rows)


def _add(
    connection: sqlite3.Connection,
    table: str,
    columns: str,
    key: tuple[str, ...],
    rows: list[tuple[Any, ...]],
) -> None:
    marks = ", ".join("?" * len(columns.split(", ")))
    where = " AND ".join(f"{name} = ?" for name in key)
    for row in rows:
        statement = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"
        if connection.execute(statement, row).rowcount:
            continue
        found = connection.execute(f"SELECT {columns} FROM {table} WHERE {where}", row[: len(key)])
        if found.fetchone() != row:
            raise RunError(
                f"the {table} of image {row[1]} by {row[0]!r} were made twice and differ",
                why="the same noise through the same classifier gives the same votes",
                repair="check that model, device and batch shape are those of the run",
            )


def slope_json(record: SlopeRecord) -> dict[str, Any]:
    """A slope as a JSON object; floats keep every bit."""
    return asdict(record)


def slope_from_json(value: Mapping[str, Any]) -> SlopeRecord:
    """The slope of a JSON object of `slope_json`."""
    return SlopeRecord(**value)
