"""Finding and loading data: a registered name or a path becomes a `Dataset`.

Folders are searched in this order: the one that was named (``--data-dir``), else
``PHALANX_DATA``, else the user cache. A folder that was named is the only one searched: data
that silently came from somewhere else would be worse than an error.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from phalanx.data.dataset import Dataset, readers
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


def find_folder(
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
        subfolders: places below each folder that are tried after the folder itself.
        wanted: for each file the names it may have; the first that exists is taken.
        repair: the line that brings the files.

    Raises:
        DataError: no folder has them all; the message lists where it looked.
    """
    places = [root / place for root in search_folders(folder) for place in (".", name, *subfolders)]
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


def load(name_or_path: str | Path, data_dir: Path | None = None, split: str = "test") -> Dataset:
    """A data set by its registered name, from an ``.npz`` file or from an image folder.

    Args:
        name_or_path: what ``phalanx data list`` shows, or a path.
        data_dir: folder of the files; None searches ``PHALANX_DATA`` and the user cache.
        split: "train" or "test".

    Raises:
        DataError: the data are missing or damaged, or nothing is known by that name.

    >>> load("digits").card.shape
    (1, 8, 8)
    """
    text = str(name_or_path)
    if text in readers.names():
        return readers.get(text)(data_dir, split)
    path = Path(name_or_path).expanduser()
    if path.is_file() and path.suffix == ".npz":
        return readers.get("npz")(path, split)
    if path.is_dir():
        return readers.get("folder")(path, split)
    raise DataError(
        f"there is no data set {text!r}",
        why="it is neither a registered name nor an .npz file nor a folder of images",
        repair=f"choose one of {', '.join(readers.names())}, or give a path",
    )
