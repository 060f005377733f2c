"""``.npz`` files: inputs under ``x``, integer labels under ``y`` if there are any.

``x`` is NCHW or rows: unsigned bytes, which become ``x / 255`` in ``(0, 1)``, or floats in
``(0, 1)`` or in the two-element range stored under ``value_range``. Pickled objects are
refused, and every array's announced size is compared with the bytes that are there before
anything is allocated.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from phalanx.data.arrays import check_layout, from_arrays, label_tensor
from phalanx.data.dataset import DataCard, Dataset, readers
from phalanx.data.files import digest_file
from phalanx.data.memory import byte_images, check_split
from phalanx.errors import DataError

MAX_BYTES = 1 << 33
"""Largest file and largest unpacked array accepted, 8 GiB."""

REPAIR = "numpy.savez(file, x=x, y=y) with plain numeric arrays"


@readers.register("npz")
def npz(folder: Path | None, split: str, limit: int = MAX_BYTES) -> Dataset:
    """The arrays of one file.

    Args:
        folder: the ``.npz`` file, or a folder that has ``train.npz`` and ``test.npz``.
        split: "train" or "test"; chooses the file where ``folder`` is a folder.
        limit: largest file and array, in bytes.

    Raises:
        DataError: no such file, no ``x``, pickled objects, damage, or unusable arrays.
    """
    check_split("npz", split)
    if folder is None:
        raise DataError("no .npz file was named", repair="--data FILE.npz")
    path = folder / f"{split}.npz" if folder.is_dir() else folder
    digest = digest_file(path, limit=limit, repair=REPAIR)
    arrays = read_members(path, ("x", "y", "value_range"), limit)
    if "x" not in arrays:
        raise DataError(f"{path} has no array 'x'", why="the inputs are read from it")
    x, y = arrays["x"], arrays.get("y")
    declared = arrays.get("value_range")
    bounds = None if declared is None else _pair(path, declared)
    checksums = {path.name: digest}
    if x.dtype != np.uint8 or bounds is not None:
        return from_arrays(
            x, y, value_range=bounds, name=path.stem, split=split, checksums=checksums
        )
    check_layout(x.shape)
    labels = None if y is None else label_tensor(y, len(x))
    card = DataCard(
        name=path.stem,
        split=split,
        shape=x.shape[1:],
        classes=None,
        images=len(x),
        checksums=checksums,
        preprocessing="bytes divided by 255",
    )
    return byte_images(card, x, labels)


def read_members(path: Path, names: tuple[str, ...], limit: int) -> dict[str, np.ndarray]:
    """Those of the named arrays that the file has, without ever unpickling anything."""
    try:
        with zipfile.ZipFile(path) as archive:
            present = {info.filename: info for info in archive.infolist()}
            found = [(name, present[f"{name}.npy"]) for name in names if f"{name}.npy" in present]
            return {name: _read_array(path, archive, info, limit) for name, info in found}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise DataError(f"{path} is damaged", why=str(error), repair=REPAIR) from error


def _read_array(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int
) -> np.ndarray:
    what = f"{info.filename} in {path}"
    if info.file_size > limit:
        raise DataError(
            f"{what} unpacks to {info.file_size} bytes", why=f"at most {limit} are accepted"
        )
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{what} is encrypted or compressed in an unknown way", repair=REPAIR)
    with archive.open(info) as stream:
        shape, fortran, dtype = _read_header(what, stream)
        if dtype.hasobject or dtype.kind not in "iufb":
            raise DataError(
                f"{what} has dtype {dtype}",
                why="only plain numbers are read; pickled objects could execute code",
                repair=REPAIR,
            )
        content = bytearray(stream.read())
    expected = math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise DataError(
            f"{what} is damaged",
            why=f"its header announces {expected} bytes of values and {len(content)} are there",
            repair=REPAIR,
        )
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array, dtype.newbyteorder("="))


def _read_header(what: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(stream)
    except ValueError as error:
        raise DataError(f"{what} is damaged", why=str(error), repair=REPAIR) from error
    raise DataError(f"{what} has the unknown format version {version}", repair=REPAIR)


def _pair(path: Path, declared: np.ndarray) -> tuple[float, float]:
    if declared.shape != (2,):
        raise DataError(
            f"value_range in {path} has shape {declared.shape}",
            why="it must hold the smallest and the largest value an input can have",
        )
    return float(declared[0]), float(declared[1])
