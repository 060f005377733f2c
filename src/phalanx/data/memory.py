"""Data sets whose pixels are kept in memory as bytes and become floats when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from phalanx.data.dataset import DataCard, Dataset
from phalanx.errors import ParameterError

SPLITS = ("train", "test")


def byte_images(
    card: DataCard, pixels: np.ndarray, labels: Tensor | None, *, white: int = 255
) -> Dataset:
    """A data set of bytes: value v becomes the float32 nearest to ``v / white``.

    Args:
        card: its ``shape`` is that of one row of ``pixels``, its range ``(0, 1)``.
        pixels: uint8 ``(images, *card.shape)`` with values at most ``white``.
        labels: int64 ``(images,)`` or None.
        white: the byte that stands for 1.0.
    """
    # bytes read from a file are read-only and torch wants memory that it may write to
    kept = torch.from_numpy(np.require(pixels, np.uint8, ["C", "W"]))

    def fetch(indices: Sequence[int]) -> Tensor:
        chosen = kept[torch.as_tensor(indices, dtype=torch.int64)]
        return chosen.to(torch.float32).div_(white)

    return Dataset(replace(card, levels=white), fetch, labels)


def check_split(name: str, split: str) -> None:
    """Refuse a split that is neither "train" nor "test" with a `ParameterError`."""
    if split not in SPLITS:
        raise ParameterError(
            f"data set {name!r} has no split {split!r}", repair="choose train or test"
        )
