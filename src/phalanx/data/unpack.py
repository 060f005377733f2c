"""Taking named files out of a ``.tar.gz`` that nobody trusts.

Nothing is ever extracted by the path that an archive gives: the wanted members are copied to
paths of ours. An archive with anything but plain files and folders inside its own root, or
with more bytes or members than a data set needs, is refused whole.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from phalanx.data.files import storing
from phalanx.errors import DataError

MAX_UNPACKED = 1 << 29
MAX_MEMBERS = 100
CHUNK = 1 << 20


def unpack(
    archive: Path,
    members: Sequence[str],
    folder: Path,
    *,
    max_bytes: int = MAX_UNPACKED,
    max_members: int = MAX_MEMBERS,
) -> list[Path]:
    """Copy the wanted members of ``archive`` to ``folder`` and return their paths.

    Args:
        archive: a gzipped tar file.
        members: paths inside the archive; they are also the paths below ``folder``.
        folder: made if it does not exist.
        max_bytes: most bytes the archive may unpack to, headers included.
        max_members: most entries it may have.

    Raises:
        DataError: damage, a missing member, or an archive that tries something: paths that
            leave the folder, links, devices, or sizes beyond the limits.
        StorageError: the disk refused a write.
    """
    missing = set(members)
    try:
        with gzip.open(archive) as plain, _Bounded(plain, max_bytes, archive) as bounded:
            with tarfile.open(fileobj=bounded, mode="r|") as tar:
                for count, entry in enumerate(tar, start=1):
                    _check(entry, archive)
                    if count > max_members:
                        raise DataError(f"{archive} has more than {max_members} entries")
                    name = PurePosixPath(entry.name).as_posix()
                    if entry.isreg() and name in missing:
                        _copy(tar, entry, folder / name)
                        missing.discard(name)
            bounded.drain()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{archive} is damaged", why=str(error)) from error
    if missing:
        raise DataError(f"{archive} has no {', '.join(sorted(missing))}")
    return [folder / name for name in members]


def _check(entry: tarfile.TarInfo, archive: Path) -> None:
    """Refuse an entry that an honest data archive does not have."""
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.name or ":" in entry.name:
        raise DataError(f"{archive} was refused", why=f"its entry {entry.name!r} leaves the folder")
    if not (entry.isreg() or entry.isdir()):
        raise DataError(
            f"{archive} was refused", why=f"its entry {entry.name!r} is a link or a device"
        )


def _copy(tar: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(entry)
    if source is None:
        raise DataError(f"{entry.name} is not a plain file")
    part = target.with_name(target.name + ".part")
    with storing(part):
        target.parent.mkdir(parents=True, exist_ok=True)
        sink = part.open("wb")
    try:
        with sink:
            while chunk := source.read(CHUNK):
                with storing(part):
                    sink.write(chunk)
        with storing(target):
            os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


class _Bounded(io.RawIOBase):
    """A stream that refuses to unpack more than ``limit`` bytes, whatever headers claim."""

    def __init__(self, stream: gzip.GzipFile, limit: int, archive: Path) -> None:
        self._stream, self._left, self._archive = stream, limit, archive

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(CHUNK if size < 0 else min(size, CHUNK))
        self._left -= len(content)
        if self._left < 0:
            raise DataError(
                f"{self._archive} was refused",
                why="it unpacks to more than its data set needs: a decompression bomb",
            )
        return content

    def drain(self) -> None:
        """Read what follows the last entry, so that gzip compares its checksum."""
        while self.read(CHUNK):
            pass
