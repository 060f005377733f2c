"""Files that are whole or not there: a crash, or a full disk, leaves the old one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from phalanx.runs.database import typed_errors


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content becomes ``path`` when the block ends without an error.

    Raises:
        StorageError: the disk is full, read-only or failing; ``path`` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with typed_errors(path):
        try:
            with temporary.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``; see `replacing`."""
    with replacing(path) as stream:
        stream.write(content)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can open folders (POSIX)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
