"""A registered name or a path becomes a `Dataset`."""

from __future__ import annotations

from pathlib import Path

from phalanx.data.arrays import from_arrays
from phalanx.data.dataset import Dataset, readers
from phalanx.errors import DataError

__all__ = ["from_arrays", "load"]


def load(
    name_or_path: str | Path, data_dir: str | Path | None = None, split: str = "test"
) -> Dataset:
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
        return readers.get(text)(None if data_dir is None else Path(data_dir), split)
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
