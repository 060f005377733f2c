"""The store of a run: counts, certificates and claims in a folder, or in memory.

Commits are transactions, and every key can be written once: a chunk that is counted again
must give the same counts. Killing the process at any moment loses at most the chunk in
flight; running the same command again, or twice at once, counts nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from phalanx.errors import RunError
from phalanx.runs import claims, samples, slopes
from phalanx.runs import manifest as manifests
from phalanx.runs.database import Database
from phalanx.runs.folder import RECORDS, TRAINING, agree, make_folder, require_unedited
from phalanx.runs.provenance import canonical_json
from phalanx.runs.rows import (
    CERTIFICATE_COLUMNS,
    CHUNK_COLUMNS,
    certificate_from_row,
    certificate_row,
    chunk_from_row,
    chunk_row,
    describe_chunk,
)
from phalanx.runs.samples import SAMPLE_COLUMNS
from phalanx.runs.schema import (
    BallotRecord,
    CertificateRecord,
    ChunkRecord,
    Manifest,
    SampleRecord,
    SlopeRecord,
)


class RunStore:
    """A run: its manifest and its records. Use `create` or `open`.

    Attributes:
        folder: where the run lives; None for a run in memory.
        manifest: ``run.json`` as stored.
        keeps_ballots: whether its certificates need to know which row cast which vote.
    """

    def __init__(self, folder: Path | None, manifest: Manifest, database: Database) -> None:
        self.folder, self.manifest = folder, manifest
        self._database = database
        self._names = {record.name for record in manifest.classifiers}
        self.keeps_ballots = bool(manifest.config.get("slope"))
        self._finished: set[int] = set()  # only grows: certificates are never withdrawn

    @classmethod
    def create(cls, folder: Path | None, manifest: Manifest) -> Self:
        """Make a run, or join the one in ``folder``; safe when several processes do so at once.

        Raises:
            ConfigurationError: the run there has another configuration, classifier or data;
                the message lists the differences.
            RunError: the folder holds something that is not a run, or a damaged one.
            StorageError: the disk refused it.
        """
        manifest = manifests.manifest_from_json(manifests.manifest_json(manifest), "the manifest")
        if folder is None:
            return cls(None, manifest, Database(None))
        folder = Path(folder)
        make_folder(folder)
        database = Database(folder / RECORDS, folder)
        try:
            return cls(folder, agree(folder, manifest, database), database)
        except BaseException:
            database.close()
            raise

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open an existing run, for reading or for going on with it.

        Raises:
            RunError: not a run, a damaged or edited one, one written by another phalanx, or a
                training run, which has no records.
        """
        folder = Path(folder)
        manifest = manifests.read_manifest(folder)
        if manifest.kind == TRAINING:
            raise RunError(
                f"{folder} is a training run, which certifies nothing",
                repair=f"phalanx certify {folder}",
            )
        if not (folder / RECORDS).is_file():
            raise RunError(
                f"the records of {folder} are missing", why=f"there is no {RECORDS} in it"
            )
        database = Database(folder / RECORDS, folder)
        try:
            database.check()
            require_unedited(folder, manifest, database)
        except BaseException:
            database.close()
            raise
        return cls(folder, manifest, database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; a run in memory is gone."""
        self._database.close()

    # samples

    def add_samples(self, records: Iterable[SampleRecord]) -> None:
        """Store images of the sweep. A stored image must keep its label and its digest.

        Raises:
            RunError: an image has another label or digest than before; nothing of the call is
                stored.
        """
        with self._database.transaction() as connection:
            for record in records:
                samples.add(connection, record)

    def samples(self) -> dict[int, SampleRecord]:
        """Every image of the sweep by its index, in order."""
        rows = self._database.query(f"SELECT {SAMPLE_COLUMNS} FROM samples ORDER BY image")
        return {row[0]: SampleRecord(*row) for row in rows}

    def labels(self) -> dict[int, int | None]:
        """The label of every stored image; None for an image without one."""
        return dict(self._database.query("SELECT image, label FROM samples ORDER BY image"))

    def digests(self) -> dict[int, str]:
        """The digest of every stored image that has one (see `SampleRecord`)."""
        return dict(
            self._database.query("SELECT image, digest FROM samples WHERE digest IS NOT NULL")
        )

    # counts

    def commit_chunks(
        self, records: Sequence[ChunkRecord], ballots: Sequence[BallotRecord] = ()
    ) -> None:
        """Store chunks in one transaction; a chunk that is there with equal counts is ignored.

        ``ballots``, where the run keeps them, are those of the same chunks.

        Raises:
            RunError: a stored chunk has other counts, an unknown classifier, or votes that do
                not add up; nothing of the call is stored.
            StorageError: the disk refused it; nothing of the call is stored.
        """
        rows = [chunk_row(self._known(record)) for record in records]
        with self._database.transaction() as connection:
            for record, row in zip(records, rows, strict=True):
                added = connection.execute(
                    f"INSERT OR IGNORE INTO chunks ({CHUNK_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", row
                )
                if not added.rowcount:
                    _require_same_chunk(connection, record, row)
            slopes.add_ballots(connection, ballots)

    def chunks(self, image: int | None = None, classifier: str | None = None) -> list[ChunkRecord]:
        """Stored chunks, by image, classifier, phase and chunk."""
        rows = self._select(CHUNK_COLUMNS, "chunks", image, classifier, ", phase, chunk")
        return [chunk_from_row(row) for row in rows]

    def ballots(self, image: int) -> list[BallotRecord]:
        """Ballots of an image, by classifier, phase and chunk; none in a run that keeps none."""
        if not self.keeps_ballots:
            return []
        columns = slopes.BALLOT_COLUMNS
        rows = self._select(columns, "ballots", image, None, ", phase, chunk")
        return [BallotRecord(*row) for row in rows]

    def counted(self) -> set[int]:
        """Images of which anything is counted."""
        return {image for (image,) in self._database.query("SELECT DISTINCT image FROM chunks")}

    def rows_counted(self, classifier: str) -> int:
        """Rows of noise whose votes are stored for a classifier."""
        total = self._database.query(
            "SELECT COALESCE(SUM(rows), 0) FROM chunks WHERE classifier = ?", (classifier,)
        )
        return int(total[0][0])

    def forget_counts(self, image: int, owner: str) -> bool:
        """Delete what is counted of an unfinished image, if ``owner`` still has it.

        Returns:
            Whether it had; the counts of an image that another process took over are left alone.
        """
        with self._database.transaction() as connection:
            holder = connection.execute("SELECT owner FROM claims WHERE image = ?", (image,))
            if (owner,) != holder.fetchone():
                return False
            for table in ("chunks", "ballots"):
                connection.execute(f"DELETE FROM {table} WHERE image = ?", (image,))
        return True

    # certificates

    def commit_certificates(
        self, records: Sequence[CertificateRecord], noise: Sequence[SlopeRecord] = ()
    ) -> None:
        """Store certificates in one transaction; an equal one (but for seconds) is ignored.

        ``noise``: what gradient certificates rest on beside their counts.

        Raises:
            RunError: a stored certificate says something else; nothing of the call is stored.
            StorageError: the disk refused it; nothing of the call is stored.
        """
        rows = [certificate_row(self._known(record)) for record in records]
        marks = ", ".join("?" * len(rows[0])) if rows else ""
        with self._database.transaction() as connection:
            for record, row in zip(records, rows, strict=True):
                added = connection.execute(
                    f"INSERT OR IGNORE INTO certificates ({CERTIFICATE_COLUMNS}) VALUES ({marks})",
                    row,
                )
                if not added.rowcount:
                    _require_same_certificate(connection, record, row)
            slopes.add_slopes(connection, noise)
            for image in {int(record.image) for record in records}:
                if self._has_all(connection, image):
                    connection.execute("DELETE FROM claims WHERE image = ?", (image,))

    def certificates(
        self, classifier: str | None = None, image: int | None = None
    ) -> list[CertificateRecord]:
        """Stored certificates, ordered by image (then by classifier)."""
        rows = self._select(CERTIFICATE_COLUMNS, "certificates", image, classifier)
        return [certificate_from_row(row) for row in rows]

    def slopes(self) -> dict[tuple[int, str], SlopeRecord]:
        """By image and classifier, in that order; none in a run without gradient certificates."""
        if not self.keeps_ballots:
            return {}
        rows = self._select(slopes.SLOPE_COLUMNS, "slopes", None, None)
        return {(row[1], row[0]): SlopeRecord(*row) for row in rows}

    def finished(self) -> set[int]:
        """Images that have a certificate from every classifier of the run."""
        rows = self._database.query(
            "SELECT image FROM certificates GROUP BY image HAVING COUNT(*) = ?",
            (len(self._names),),
        )
        self._finished = {image for (image,) in rows}
        return set(self._finished)

    # sharing

    def claim(self, candidates: Sequence[int], owner: str, count: int = 1) -> list[int]:
        """Claim the first ``count`` unfinished images nobody works on, in the given order.

        A claim whose owner gave no heartbeat for 120 s, or is a dead process of this host, is
        taken over. An empty list means: nothing left to start, though others may still work.

        Raises:
            RunError: a process of another machine works on the run.
        """
        with self._database.transaction() as connection:
            return claims.take(
                connection,
                candidates,
                owner,
                count=count,
                is_finished=lambda image: self._is_finished(connection, image),
                now=time.time(),
            )

    def heartbeat(self, owner: str) -> None:
        """Say that ``owner`` still works on what it claimed; at least every 120 s."""
        with self._database.transaction() as connection:
            claims.beat(connection, owner, time.time())

    def release(self, owner: str) -> None:
        """Give back whatever ``owner`` claimed; it is gone even where the disk refuses that."""
        claims.forget(owner)
        with self._database.transaction() as connection:
            claims.release(connection, owner)

    def _is_finished(self, connection: sqlite3.Connection, image: int) -> bool:
        if image not in self._finished and self._has_all(connection, image):
            self._finished.add(image)
        return image in self._finished

    def _has_all(self, connection: sqlite3.Connection, image: int) -> bool:
        found = connection.execute("SELECT COUNT(*) FROM certificates WHERE image = ?", (image,))
        return bool(found.fetchone()[0] >= len(self._names))

    # notes and digest

    def set_meta(self, key: str, value: Any) -> None:
        """Store a note (a JSON value), such as wall seconds or throughput."""
        text = canonical_json(value)
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, text))

    def get_meta(self, key: str, default: Any = None) -> Any:
        """A stored note, or ``default``."""
        found = self._database.query("SELECT value FROM meta WHERE key = ?", (key,))
        return json.loads(found[0][0]) if found else default

    def digest(self) -> str:
        """SHA-256 over images, labels, counts and certificates in one order, without times.

        An interrupted, resumed or shared run has the digest of an uninterrupted one.
        """
        state = hashlib.sha256()
        certificate = CERTIFICATE_COLUMNS.replace("seconds, ", "")
        tables = [
            ("samples", "image, label, digest", "image"),
            ("chunks", CHUNK_COLUMNS, "image, classifier, phase, chunk"),
            ("certificates", certificate, "image, classifier"),
        ]
        if self.keeps_ballots:
            tables.append(("slopes", slopes.SLOPE_COLUMNS, "image, classifier"))
        for table, columns, order in tables:
            for row in self._database.stream(f"SELECT {columns} FROM {table} ORDER BY {order}"):
                state.update(f"{table}{canonical_json(row)}\n".encode("ascii"))
        return state.hexdigest()

    def _known(self, record: Any) -> Any:
        if record.classifier not in self._names:
            raise RunError(
                f"the run has no classifier called {record.classifier!r}",
                why=f"its classifiers are {', '.join(sorted(self._names)) or '(none)'}",
            )
        return record

    def _select(
        self, columns: str, table: str, image: int | None, classifier: str | None, order: str = ""
    ) -> list[tuple[Any, ...]]:
        asked = {"image": image, "classifier": classifier}
        given = {key: value for key, value in asked.items() if value is not None}
        where = " AND ".join(f"{key} = ?" for key in given) or "1"
        return self._database.query(
            f"SELECT {columns} FROM {table} WHERE {where} ORDER BY image, classifier{order}",
            tuple(given.values()),
        )


def _require_same_chunk(
    connection: sqlite3.Connection, record: ChunkRecord, row: tuple[Any, ...]
) -> None:
    stored = connection.execute(
        f"SELECT {CHUNK_COLUMNS} FROM chunks "
        "WHERE classifier = ? AND image = ? AND phase = ? AND chunk = ?",
        row[:4],
    ).fetchone()
    if stored != row:
        raise RunError(
            f"{describe_chunk(record)} was counted twice with different outcome: "
            f"{stored[5]} of {stored[4]}, then {row[5]} of {row[4]}",
            why="the same noise through the same classifier gives the same votes",
            repair="check that model, device and batch shape are those of the run; "
            "phalanx doctor MODEL tells whether the model is deterministic",
        )


def _require_same_certificate(
    connection: sqlite3.Connection, record: CertificateRecord, row: tuple[Any, ...]
) -> None:
    stored = connection.execute(
        f"SELECT {CERTIFICATE_COLUMNS} FROM certificates WHERE classifier = ? AND image = ?",
        row[:2],
    ).fetchone()
    old, new = (replace(certificate_from_row(r), seconds=None) for r in (stored, row))
    if old != new:
        raise RunError(
            f"image {record.image} of {record.classifier!r} was certified twice with different "
            f"outcome: {_outcome(old)}, then {_outcome(new)}",
            why="a certificate is never replaced",
        )


def _outcome(record: CertificateRecord) -> str:
    return f"{record.verdict} class {record.predicted} radius {record.radius} n_a {record.n_a}"
