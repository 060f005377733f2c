"""Where data lie on this machine; imports no torch.

Folders are searched in this order: the one that was named (``--data-dir``), else
``PHALANX_DATA``, else the user cache. A folder that was named is the only one searched: data
that silently came from somewhere else would be worse than an error.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from phalanx.errors import DataError

VARIABLE = "PHALANX_DATA"


def cache_folder() -> Path:
    """The user cache, ``$XDG_CACHE_HOME/phalanx/data`` or ``~/.cache/phalanx/data``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "phalanx" / "data"


def search_folders(folder: Path | None) -> list[Path]:
    """The folders that are searched, first one first."""
    if folder is not None:
        return [Path(folder).expanduser()]
    named = os.environ.get(VARIABLE)
    return [*([Path(named).expanduser()] if named else []), cache_folder()]


def find_files(
    name: str,
    folder: Path | None,
    subfolders: Sequence[str],
    wanted: Sequence[Sequence[str]],
    *,
    repair: str,
) -> list[Path]:
    """The paths of the wanted files, all from the first folder that has every one of them.

    Args:
        name: the data set, for the error.
        folder: the named folder or None, see `search_folders`.
        subfolders: places below each folder that are tried after ``name`` and before the folder
            itself (MNIST and FashionMNIST have equal file names, so the specific place wins).
        wanted: for each file the names it may have; the first that exists is taken.
        repair: the line that brings the files.

    Raises:
        DataError: no folder has them all; the message lists where it looked.
    """
    places = [root / place for root in search_folders(folder) for place in (name, *subfolders, ".")]
    for place in places:
        found = [[place / file for file in files if (place / file).is_file()] for files in wanted]
        if all(found):
            return [choices[0] for choices in found]
    looked = ", ".join(str(root) for root in search_folders(folder))
    raise DataError(
        f"the files of data set {name!r} were not found",
        why=f"looked for {', '.join(files[0] for files in wanted)} in {looked} and in"
        f" {', '.join(dict.fromkeys((name, *subfolders)))} below",
        repair=f"{repair}, or --data-dir DIR, or {VARIABLE}=DIR",
    )


def store_folder(name: str, folder: Path | None) -> Path:
    """Where a download of ``name`` goes: below the first folder that is searched."""
    return search_folders(folder)[0] / name
