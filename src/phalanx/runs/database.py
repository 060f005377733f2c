"""One SQLite file: connection, transactions, and its failures as typed errors.

WAL mode lets readers read while one writer writes; a kill -9 at any moment leaves a
database in which every committed transaction is whole (SQLite, "Write-Ahead Logging").
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phalanx.errors import PhalanxError, RunError, StorageError

BUSY_SECONDS = 60.0
APPLICATION_ID = 0x50484C58  # "PHLX": tells a run's database from any other SQLite file
DATABASE_VERSION = 3
_WITHOUT_DETAILS = 2

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (
    key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS samples (
    image INTEGER PRIMARY KEY, label INTEGER, thumbnail BLOB, digest TEXT);
CREATE TABLE IF NOT EXISTS chunks (
    image INTEGER NOT NULL, classifier TEXT NOT NULL, phase TEXT NOT NULL,
    chunk INTEGER NOT NULL, rows INTEGER NOT NULL, counts TEXT NOT NULL,
    PRIMARY KEY (image, classifier, phase, chunk)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS certificates (
    image INTEGER NOT NULL, classifier TEXT NOT NULL, verdict TEXT NOT NULL,
    predicted INTEGER, correct INTEGER, radius REAL, n_a INTEGER, n INTEGER, p_lower REAL,
    seconds REAL, reason TEXT NOT NULL, radius_text TEXT, details TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (image, classifier)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ballots (
    image INTEGER NOT NULL, classifier TEXT NOT NULL, phase TEXT NOT NULL,
    chunk INTEGER NOT NULL, ballots BLOB NOT NULL,
    PRIMARY KEY (image, classifier, phase, chunk)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slopes (
    image INTEGER NOT NULL, classifier TEXT NOT NULL, n1 INTEGER NOT NULL, n2 INTEGER NOT NULL,
    norm1 REAL NOT NULL, norm2 REAL NOT NULL, product REAL NOT NULL,
    PRIMARY KEY (image, classifier)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (image INTEGER PRIMARY KEY, owner TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS owners (owner TEXT PRIMARY KEY, beat REAL NOT NULL) WITHOUT ROWID;
"""

_WRITE_REFUSED = {
    sqlite3.SQLITE_FULL: "database or disk is full",
    sqlite3.SQLITE_READONLY: "readonly database",
    sqlite3.SQLITE_IOERR: "disk i/o error",
    sqlite3.SQLITE_CANTOPEN: "unable to open database",
    sqlite3.SQLITE_BUSY: "database is locked",
}
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT: "malformed",
    sqlite3.SQLITE_NOTADB: "not a database",
}
_DISK_ERRNO = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.EACCES,
    errno.EPERM,
}


@contextmanager
def typed_errors(where: Path | str) -> Iterator[None]:
    """Turn what the disk or SQLite refuses inside the block into a typed error.

    Raises:
        StorageError: full, read-only, failing or permanently locked storage.
        RunError: the database is damaged or is not one.
    """
    try:
        yield
    except sqlite3.Error as error:
        typed = _typed(error, where)
        if typed is None:
            raise
        raise typed from error
    except OSError as error:
        if error.errno not in _DISK_ERRNO:
            raise
        raise _refused(where, error) from error


def _typed(error: sqlite3.Error, where: Path | str) -> PhalanxError | None:
    if _is_one_of(error, _WRITE_REFUSED):
        return _refused(where, error)
    if _is_one_of(error, _DAMAGED):
        return RunError(
            f"the records of {where} are damaged: {error}",
            why="SQLite cannot read the file",
            repair="restore the folder from a copy, or run the command again with a new --out",
        )
    return None


def _is_one_of(error: sqlite3.Error, kinds: dict[int, str]) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in kinds
    return any(text in str(error).lower() for text in kinds.values())


def _refused(where: Path | str, error: Exception) -> StorageError:
    return StorageError(
        f"the disk refused a write to {where}: {error}",
        why="nothing committed earlier is lost",
        repair="free space or restore access, then run the same command again: it continues",
    )


class Database:
    """A run's SQLite file, or a database in memory where ``path`` is None.

    One connection guarded by a lock, so that a heartbeat thread may share it. Another
    process opens its own.

    Args:
        path: the file; created when absent.
        where: what error messages call it.

    Raises:
        StorageError, RunError: see `typed_errors`; another format is a `RunError`.
    """

    def __init__(self, path: Path | None, where: Path | str = "memory") -> None:
        self.where = where
        self._lock = threading.RLock()
        with typed_errors(where):
            self._connection = _connect(path)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        # A store in memory lives as long as the result that holds it; nobody else closes it.
        weakref.finalize(self, self._connection.close)

    def _prepare(self) -> None:
        readonly = bool(self._connection.execute("PRAGMA query_only").fetchone()[0])
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > DATABASE_VERSION:
            raise RunError(
                f"{self.where} was written by a newer phalanx (record format {version})",
                why=f"this version reads formats up to {DATABASE_VERSION}",
                repair="upgrade phalanx",
            )
        if 0 < version < _WITHOUT_DETAILS:
            raise RunError(
                f"{self.where} was written by an unreleased phalanx (record format {version})",
                why="its counts are not tied to images and to the order of classifiers",
                repair="run the command again with a new --out",
            )
        if version == DATABASE_VERSION or (readonly and not version):
            return
        if version == _WITHOUT_DETAILS:
            self._add_details(readonly)
            return
        if self._tables() and self._application() != APPLICATION_ID:
            raise RunError(
                f"{self.where} holds a database that is not a run's",
                repair="choose another --out",
            )
        with self.transaction() as connection:
            _create_tables(connection)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {DATABASE_VERSION}")

    def _add_details(self, readonly: bool) -> None:
        """Bring a database of the format before this one up to it."""
        if readonly:
            raise RunError(
                f"{self.where} has an older record format and cannot be written",
                repair="copy it to where it can be written",
            )
        with self.transaction() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == _WITHOUT_DETAILS:  # else another process was faster
                connection.execute(
                    "ALTER TABLE certificates ADD COLUMN details TEXT NOT NULL DEFAULT '{}'"
                )
                _create_tables(connection)
                connection.execute(f"PRAGMA user_version = {DATABASE_VERSION}")

    def _tables(self) -> int:
        found = self._connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        return int(found[0])

    def _application(self) -> int:
        return int(self._connection.execute("PRAGMA application_id").fetchone()[0])

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of the block is committed, or none of it."""
        with self._lock, typed_errors(self.where):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Every row of a SELECT."""
        with self._lock, typed_errors(self.where):
            return self._connection.execute(sql, parameters).fetchall()

    def stream(self, sql: str, size: int = 4096) -> Iterator[tuple[Any, ...]]:
        """The rows of a SELECT without holding them all in memory."""
        with self._lock, typed_errors(self.where):
            cursor = self._connection.execute(sql)
            while block := cursor.fetchmany(size):
                yield from block

    def check(self) -> None:
        """Run SQLite's own structural check.

        Raises:
            RunError: with the first damage found.
        """
        finding = self.query("PRAGMA quick_check(1)")[0][0]
        if finding != "ok":
            raise RunError(
                f"the records of {self.where} are damaged: {finding}",
                repair="restore the folder from a copy, or run again with a new --out",
            )

    def close(self) -> None:
        """Close the connection; the last one folds the write-ahead log into the file."""
        with self._lock:
            self._connection.close()


def _create_tables(connection: sqlite3.Connection) -> None:
    """Those that are not there."""
    for statement in _TABLES.split(";"):
        connection.execute(statement)


def _connect(path: Path | None) -> sqlite3.Connection:
    """Open for writing where the folder allows it, else read-only."""
    options: dict[str, Any] = {
        "timeout": BUSY_SECONDS,
        "isolation_level": None,
        "check_same_thread": False,
    }
    if path is None:
        return sqlite3.connect(":memory:", **options)
    if os.access(path.parent, os.W_OK):
        connection = sqlite3.connect(path, **options)
        _enable_wal(connection)
        return connection
    # A read-only folder has no room for WAL's shared-memory file; without a pending log the
    # database is one immutable file, with one SQLite reads the log that lies beside it.
    pending = path.with_name(path.name + "-wal").exists()
    address = f"{path.resolve().as_uri()}?mode=ro" + ("" if pending else "&immutable=1")
    connection = sqlite3.connect(address, uri=True, **options)
    connection.execute("PRAGMA query_only = 1")
    return connection


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL; SQLite does not wait for other openers here, so we do."""
    deadline = time.monotonic() + BUSY_SECONDS
    try:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                locked = _is_one_of(error, {sqlite3.SQLITE_BUSY: "locked"})
                if not locked or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
