"""``phalanx data fetch``: the published files of a data set, verified, in a folder."""

from __future__ import annotations

from pathlib import Path

from phalanx.data.download import Progress, check_address, download
from phalanx.data.files import digest_file, storing
from phalanx.data.folders import store_folder
from phalanx.data.sources import SOURCES, RemoteFile, Source
from phalanx.data.unpack import unpack
from phalanx.errors import DataError, ParameterError

MAX_PRESENT = 1 << 31
"""Largest file that is compared with the published one, in bytes."""


def fetch(
    source: Source | str,
    data_dir: Path | None = None,
    *,
    base: str | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Download what is missing of a data set.

    Args:
        source: a name of `SOURCES`, or a source of one's own.
        data_dir: the files go to ``data_dir/NAME``; None takes ``PHALANX_DATA`` or the cache.
        base: an address to download from instead of the published mirrors.
        progress: called while bytes arrive.

    Returns:
        The files, in the order of the source.

    Raises:
        ParameterError: an unknown name, or a ``base`` that is no http(s) address.
        DataError: no mirror has the expected bytes, an archive is unsafe, or a file is in
            the way.
        StorageError: the disk refused a write.
    """
    source = find_source(source) if isinstance(source, str) else source
    mirrors = source.mirrors if base is None else (check_address(base),)
    folder = store_folder(source.name, data_dir)
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return [path for file in source.files for path in _fetch_file(file, mirrors, folder, progress)]


def find_source(name: str) -> Source:
    """The source called ``name``, or a `ParameterError` that lists the choices."""
    if name not in SOURCES:
        raise ParameterError(
            f"nothing can be fetched for {name!r}", repair=f"choose one of {', '.join(SOURCES)}"
        )
    return SOURCES[name]


def _fetch_file(
    file: RemoteFile, mirrors: tuple[str, ...], folder: Path, progress: Progress | None
) -> list[Path]:
    unpacked = [folder / member for member in file.members]
    if unpacked and all(path.is_file() for path in unpacked):
        return unpacked
    target = folder / file.name
    if target.exists():
        _check_present(target, file)
    else:
        download(file, mirrors, target, progress=progress)
    if not file.members:
        return [target]
    paths = unpack(target, file.members, folder)
    target.unlink()
    return paths


def _check_present(target: Path, file: RemoteFile) -> None:
    """A finished file with other bytes is somebody's: it is reported, never overwritten."""
    digest = digest_file(target, limit=MAX_PRESENT)
    if digest != file.sha256:
        raise DataError(
            f"{target} is not the published file",
            why=f"its SHA-256 is {digest} and {file.sha256} was expected",
            repair="move it away, or choose another --data-dir",
        )
