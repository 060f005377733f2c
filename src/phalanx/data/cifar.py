"""The binary version of CIFAR-10 and CIFAR-100.

A file is a sequence of records: label bytes, then 3x32x32 pixel bytes in the order colour,
row, column (Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009). A
CIFAR-10 record has one label byte, a CIFAR-100 record a coarse and a fine one, of which the
fine one is read. Any whole number of records is accepted, so subsets can be kept as files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from phalanx.data.dataset import DataCard, Dataset
from phalanx.data.files import read_bytes
from phalanx.data.folders import find_files
from phalanx.data.memory import byte_images, check_split
from phalanx.errors import DataError

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
MAX_BYTES = 1 << 28
"""Largest file accepted: the largest published one has 153.7 million bytes."""


@dataclass(frozen=True)
class Layout:
    """Files and records of one of the two sets.

    Attributes:
        name: registered name.
        label_bytes: bytes before the pixels; the last of them is the label.
        classes: number of classes.
        files: file names of each split.
        subfolders: places below a data folder where the files usually lie.
    """

    name: str
    label_bytes: int
    classes: int
    files: dict[str, tuple[str, ...]]
    subfolders: tuple[str, ...]


def read_records(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray, str]:
    """Pixels uint8 ``(n, 3, 32, 32)``, labels int64 ``(n,)`` and the SHA-256 of one file.

    Raises:
        DataError: the file is missing, is not a whole number of records, or has labels that
            no class has.
    """
    repair = f"phalanx data fetch {layout.name}"
    content, digest = read_bytes(path, limit=MAX_BYTES, repair=repair)
    record = layout.label_bytes + PIXELS
    if not content or len(content) % record:
        raise DataError(
            f"{path} has {len(content)} bytes",
            why=f"a whole number of records of {record} bytes was expected",
            repair=repair,
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    if labels.max() >= layout.classes:
        raise DataError(
            f"{path} has the label {labels.max()}",
            why=f"labels lie in 0..{layout.classes - 1}; the file is damaged or of another format",
            repair=repair,
        )
    return records[:, layout.label_bytes :].reshape(-1, *SHAPE), labels, digest


def read_split(
    layout: Layout, folder: Path | None, split: str, class_names: tuple[str, ...] = ()
) -> Dataset:
    """One split of a CIFAR set; ``folder`` as in `find_files`."""
    check_split(layout.name, split)
    paths = find_files(
        layout.name,
        folder,
        layout.subfolders,
        [(file,) for file in layout.files[split]],
        repair=f"phalanx data fetch {layout.name}",
    )
    parts = [read_records(path, layout) for path in paths]
    pixels = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    card = DataCard(
        name=layout.name,
        split=split,
        shape=SHAPE,
        classes=layout.classes,
        images=len(pixels),
        class_names=class_names or _names_beside(paths[0].parent, layout.classes),
        checksums={path.name: part[2] for path, part in zip(paths, parts, strict=True)},
        source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        preprocessing="bytes divided by 255",
    )
    return byte_images(card, pixels, torch.from_numpy(labels))


def _names_beside(folder: Path, classes: int) -> tuple[str, ...]:
    """The names in ``fine_label_names.txt``; none where the file is absent or has another size."""
    path = folder / "fine_label_names.txt"
    if not path.is_file():
        return ()
    content, _ = read_bytes(path, limit=1 << 16)
    names = tuple(content.decode("utf-8", "replace").split())
    return names if len(names) == classes else ()
