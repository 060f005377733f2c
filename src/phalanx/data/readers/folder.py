"""Folders of images, such as ImageNet: class folders, or images and a label file.

Each image becomes RGB, its shorter side is resized to 256 pixels (bilinear, antialiased) and
the central 224x224 pixels are kept: the preprocessing of the smoothing papers on ImageNet.
Images are read when they are asked for.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from phalanx.data.dataset import DataCard, Dataset, readers
from phalanx.data.labelled_folder import list_images, split_folder
from phalanx.data.memory import check_split
from phalanx.errors import DataError, MissingDependencyError, ParameterError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
MAX_FILE_BYTES = 1 << 26
MAX_PIXELS = 1 << 26
"""Largest image accepted: 64 megapixels, announced in its header, before it is unpacked."""


@readers.register("folder")
def folder_of_images(
    folder: Path | None, split: str, resize: int = 256, crop: int = 224
) -> Dataset:
    """The images of a folder, float32 ``(3, crop, crop)`` in ``(0, 1)``.

    Args:
        folder: class folders or images, or a folder that has them under ``train`` / ``val``.
        split: "train" or "test".
        resize: length of the shorter side before cropping, in pixels.
        crop: side of the central square that is kept, at most ``resize``.

    Raises:
        DataError: no images, or labels that do not fit; an unreadable image raises it when
            it is fetched.
        MissingDependencyError: Pillow is not installed.
    """
    check_split("folder", split)
    if not 1 <= crop <= resize:
        raise ParameterError(f"crop {crop} of images resized to {resize}", why="it must fit in")
    if folder is None or not folder.is_dir():
        raise DataError(
            "no folder of images was named" if folder is None else f"{folder} is no folder",
            repair="--data DIR with one folder a class, or with images and labels.txt",
        )
    _require_pillow()
    base = split_folder(folder, split)
    try:
        listing = list_images(base, folder)
        digest = listing.digest(base)
    except OSError as error:
        raise DataError(f"{base} cannot be listed", why=str(error)) from error
    card = DataCard(
        name=folder.resolve().name,
        split=split,
        shape=(3, crop, crop),
        classes=len(listing.class_names) or None,
        images=len(listing.paths),
        class_names=listing.class_names,
        checksums={"names, sizes and labels": digest},
        preprocessing=f"RGB, shorter side resized to {resize} (bilinear), central {crop}x{crop},"
        " divided by 255",
        levels=255,
    )
    labels = None if listing.labels is None else torch.tensor(listing.labels, dtype=torch.int64)

    def fetch(indices: Sequence[int]) -> Tensor:
        images = [read_image(listing.paths[index], resize, crop) for index in indices]
        return torch.from_numpy(np.stack(images)).to(torch.float32).div_(255)

    return Dataset(card, fetch, labels)


def read_image(path: Path, resize: int, crop: int) -> np.ndarray:
    """One image, resized and cropped: uint8 ``(3, crop, crop)``.

    Raises:
        DataError: no image, damaged, or so large that it may be a decompression bomb.
    """
    from PIL import Image

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path} is too large", why=f"at most {MAX_FILE_BYTES} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"{path} has {image.width}x{image.height} pixels",
                        why=f"at most {MAX_PIXELS} are accepted",
                    )
                return _crop(image.convert("RGB"), resize, crop)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is too large", why=str(error)) from error
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path} cannot be read as an image", why=str(error)) from error


def _crop(image: Image, resize: int, crop: int) -> np.ndarray:
    from PIL import Image as Pillow

    width, height = image.size
    short = min(width, height)
    if resize * max(width, height) // short * resize > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels are too narrow to be resized")
    # integer division as in the reference preprocessing: the longer side is rounded down
    size = (resize * width // short, resize * height // short)
    image = image.resize(size, Pillow.Resampling.BILINEAR)
    left, top = round((size[0] - crop) / 2), round((size[1] - crop) / 2)
    pixels = np.asarray(image.crop((left, top, left + crop, top + crop)))
    return pixels.transpose(2, 0, 1)


def _require_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "image folders are read with Pillow, which is not installed",
            repair="pip install 'phalanx[images]'",
        ) from error
