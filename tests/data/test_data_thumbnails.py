"""Thumbnails, decoded by an independent reader."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from phalanx.data.thumbnails import thumbnail


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 64, 5), (1, 1, 1)])
def test_bytes_come_back_exactly(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    png = thumbnail(torch.from_numpy(pixels).float() / 255)
    assert png is not None
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == ("L" if shape[0] == 1 else "RGB")
        decoded = np.asarray(image).reshape(*shape[1:], shape[0]).transpose(2, 0, 1)
    assert np.array_equal(decoded, pixels)


def test_range_clipping_and_nan() -> None:
    x = torch.tensor([[[-9.0, -1.0, 0.0], [1.0, 9.0, float("nan")]]])
    png = thumbnail(x, (-1.0, 1.0))
    assert png is not None
    with Image.open(io.BytesIO(png)) as image:
        assert np.asarray(image).tolist() == [[0, 0, 128], [255, 255, 0]]


@pytest.mark.parametrize("shape", [(16,), (2, 8, 8), (1, 65, 8), (3, 224, 224), (1, 0, 4)])
def test_what_cannot_be_shown_is_absent(shape: tuple[int, ...]) -> None:
    assert thumbnail(torch.zeros(shape)) is None
