"""The handwritten digits that scikit-learn carries: 1,797 real scans of 8x8 pixels.

They are the test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin
and Kaynak 1998), with 17 grey levels. The split is ours, since none is published: of every
five images of a class, in file order, the third is a test image (359 test, 1,438 training).
It is stratified and involves no random numbers; writers appear in both parts.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from phalanx.data.dataset import DataCard, Dataset, readers
from phalanx.data.memory import byte_images, check_split

WHITE = 16


@readers.register("digits")
def digits(folder: Path | None, split: str) -> Dataset:
    """1,438 training or 359 test images, float32 ``(1, 8, 8)`` in ``(0, 1)``, no download.

    ``folder`` is ignored: the scans come with scikit-learn.
    """
    check_split("digits", split)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels, labels = bunch.images.astype(np.uint8)[:, None], bunch.target.astype(np.int64)
    chosen = held_out(labels) if split == "test" else ~held_out(labels)
    pixels, labels = pixels[chosen], labels[chosen]
    card = DataCard(
        name="digits",
        split=split,
        shape=(1, 8, 8),
        classes=10,
        images=len(labels),
        class_names=tuple("0123456789"),
        checksums={"digits": hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()},
        source="scikit-learn load_digits: Alpaydin and Kaynak, UCI ML Repository, 1998",
        preprocessing="17 grey levels divided by 16",
    )
    return byte_images(card, pixels, torch.from_numpy(labels), white=WHITE)


def held_out(labels: np.ndarray) -> np.ndarray:
    """Which images are test images: the third of every five of a class, in order.

    >>> held_out(np.array([1, 1, 7, 1, 1, 1])).tolist()
    [False, False, False, True, False, False]
    """
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        mask[np.flatnonzero(labels == label)[2::5]] = True
    return mask
