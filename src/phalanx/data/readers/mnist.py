"""MNIST: 28x28 handwritten digits (LeCun et al. 1998), from the four IDX files."""

from __future__ import annotations

from pathlib import Path

from phalanx.data.dataset import Dataset, readers
from phalanx.data.idx import read_pair


@readers.register("mnist")
def mnist(folder: Path | None, split: str) -> Dataset:
    """60,000 training or 10,000 test images, float32 ``(1, 28, 28)`` in ``(0, 1)``."""
    return read_pair(
        "mnist",
        folder,
        split,
        subfolders=("MNIST/raw", "MNIST", "raw"),
        class_names=tuple("0123456789"),
        source="LeCun, Bottou, Bengio and Haffner, Gradient-based learning, 1998",
    )
