"""Reading files that were downloaded or made by others: bounded, hashed, with typed errors."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from phalanx.errors import DataError, StorageError

GZIP_MAGIC = b"\x1f\x8b"


def read_bytes(path: Path, *, limit: int, repair: str = "") -> tuple[bytes, str]:
    """The whole file and its SHA-256 hex digest.

    Args:
        path: the file.
        limit: largest size accepted, in bytes; a larger file is refused before it is read.
        repair: what the error suggests.

    Raises:
        DataError: the file is missing, unreadable or larger than ``limit``.
    """
    _check_size(path, limit, repair)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error, repair) from error
    return content, hashlib.sha256(content).hexdigest()


def digest_file(path: Path, *, limit: int, repair: str = "") -> str:
    """SHA-256 hex digest of a file that is too large to be held; errors as in `read_bytes`."""
    _check_size(path, limit, repair)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error, repair) from error


def read_exactly(stream: BinaryIO, size: int, path: Path, repair: str) -> bytes:
    """``size`` bytes of an open (perhaps gzipped) stream; fewer are a `DataError`."""
    content = _read(stream, size, path, repair)
    if len(content) != size:
        raise DataError(
            f"{path} is truncated",
            why=f"{size} bytes were expected and {len(content)} are there",
            repair=repair,
        )
    return content


def read_end(stream: BinaryIO, path: Path, repair: str) -> None:
    """Check that the stream ends here; for gzip this also compares its CRC and length."""
    if _read(stream, 1, path, repair):
        raise DataError(f"{path} is longer than its header announces", repair=repair)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the disk's refusal to write ``path`` into a `StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written",
            why=str(error),
            repair="free space or choose another --data-dir, then run the same command again",
        ) from error


def _read(stream: BinaryIO, size: int, path: Path, repair: str) -> bytes:
    try:
        return stream.read(size)
    except EOFError as error:
        raise DataError(f"{path} is truncated", why=str(error), repair=repair) from error
    except (OSError, zlib.error) as error:
        raise DataError(
            f"{path} is damaged", why=f"its compressed data is broken ({error})", repair=repair
        ) from error


def open_plain(content: bytes) -> BinaryIO:
    """A stream of ``content``, decompressed while it is read if it is gzipped.

    The magic bytes decide, not the file name: browsers unpack ``.gz`` files silently.
    """
    stream = io.BytesIO(content)
    if content[:2] == GZIP_MAGIC:
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    return stream


def _check_size(path: Path, limit: int, repair: str) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error, repair) from error
    if size > limit:
        raise DataError(
            f"{path} has {size} bytes", why=f"at most {limit} are accepted", repair=repair
        )


def _unreadable(path: Path, error: OSError, repair: str) -> DataError:
    return DataError(f"{path} cannot be read", why=str(error), repair=repair)
