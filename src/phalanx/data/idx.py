"""IDX, the format of MNIST and FashionMNIST.

A file is the bytes ``0 0 type ndim``, then ``ndim`` big-endian 32-bit sizes, then the values
in C order (Y. LeCun, C. Cortes, C. Burges, "The MNIST database"). Only unsigned bytes, the
type of every published image file, are read.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch

from phalanx.data.dataset import DataCard, Dataset
from phalanx.data.files import open_plain, read_bytes, read_end, read_exactly
from phalanx.data.folders import find_files
from phalanx.data.memory import byte_images, check_split
from phalanx.data.sources import SOURCES
from phalanx.errors import DataError

UNSIGNED_BYTE = 0x08
MAX_DIMENSIONS = 4
MAX_BYTES = 1 << 30
"""Largest file and largest unpacked array accepted: twenty times the largest MNIST file."""

PREFIX = {"train": "train", "test": "t10k"}


def read_idx(path: Path, *, repair: str = "") -> tuple[np.ndarray, str]:
    """The array of one IDX file, gzipped or not, and the file's SHA-256 hex digest.

    Sizes are checked before anything is unpacked, and never more is unpacked than the header
    announces, so a decompression bomb costs nothing.

    Returns:
        uint8 array of the shape in the header, and the digest of the file as it lies there.

    Raises:
        DataError: missing, truncated, damaged, of another format, too large, or longer than
            its header says.
    """
    content, digest = read_bytes(path, limit=MAX_BYTES, repair=repair)
    with open_plain(content) as stream:
        zero, kind, ndim = struct.unpack(">HBB", read_exactly(stream, 4, path, repair))
        if zero != 0 or kind != UNSIGNED_BYTE or not 1 <= ndim <= MAX_DIMENSIONS:
            raise DataError(
                f"{path} is not an IDX file of bytes",
                why=f"its first bytes are {zero:04x}{kind:02x}{ndim:02x} and 000008 followed by"
                f" 01..{MAX_DIMENSIONS:02} was expected",
                repair=repair,
            )
        shape = struct.unpack(f">{ndim}I", read_exactly(stream, 4 * ndim, path, repair))
        size = math.prod(shape)
        if not 0 < size <= MAX_BYTES:
            raise DataError(
                f"{path} announces an array of shape {shape}",
                why=f"1 to {MAX_BYTES} bytes are accepted",
                repair=repair,
            )
        values = np.frombuffer(read_exactly(stream, size, path, repair), np.uint8)
        read_end(stream, path, repair)
    return values.reshape(shape), digest


def read_pair(
    name: str,
    folder: Path | None,
    split: str,
    *,
    subfolders: tuple[str, ...],
    class_names: tuple[str, ...],
    source: str,
) -> Dataset:
    """The images and labels of one split of an MNIST-like set of 28x28 grey images.

    Args:
        name: the registered name, also what ``phalanx data fetch`` calls it.
        folder: where to look, or None for the usual places (see `find_files`).
        split: "train" or "test".
        subfolders: places below a folder where such files usually lie.
        class_names: ten names, in label order.
        source: citation for the card.
    """
    check_split(name, split)
    repair = f"phalanx data fetch {name}"
    stems = [f"{PREFIX[split]}-{part}-ubyte" for part in ("images-idx3", "labels-idx1")]
    paths = find_files(name, folder, subfolders, [(s, f"{s}.gz") for s in stems], repair=repair)
    images, images_digest = read_idx(paths[0], repair=repair)
    labels, labels_digest = read_idx(paths[1], repair=repair)
    _refuse_other_sets(name, paths[1], labels_digest)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise DataError(
            f"{paths[0]} has shape {images.shape} and {paths[1].name} {labels.shape}",
            why="(n, 28, 28) and (n,) were expected",
            repair=repair,
        )
    card = DataCard(
        name=name,
        split=split,
        shape=(1, 28, 28),
        classes=len(class_names),
        images=len(images),
        class_names=class_names,
        checksums={paths[0].name: images_digest, paths[1].name: labels_digest},
        source=source,
        preprocessing="bytes divided by 255",
    )
    return byte_images(card, images[:, None], torch.from_numpy(labels.astype(np.int64)))


def _refuse_other_sets(name: str, path: Path, digest: str) -> None:
    """MNIST and FashionMNIST have equal file names: published files of the other are refused."""
    for source in SOURCES.values():
        if source.name != name and digest in {file.sha256 for file in source.files}:
            raise DataError(
                f"{path} belongs to data set {source.name!r}",
                why=f"its SHA-256 is the published one, and {name!r} was asked for",
                repair=f"--data {source.name}, or another --data-dir",
            )
