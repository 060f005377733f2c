"""CIFAR-10: 32x32 colour images of ten classes, from the binary batches."""

from __future__ import annotations

from pathlib import Path

from phalanx.data.cifar import Layout, read_split
from phalanx.data.dataset import Dataset, readers

LAYOUT = Layout(
    name="cifar10",
    label_bytes=1,
    classes=10,
    files={
        "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        "test": ("test_batch.bin",),
    },
    subfolders=("cifar10/cifar-10-batches-bin", "cifar-10-batches-bin", "cifar-10"),
)
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@readers.register("cifar10")
def cifar10(folder: Path | None, split: str) -> Dataset:
    """50,000 training or 10,000 test images, float32 ``(3, 32, 32)`` in ``(0, 1)``."""
    return read_split(LAYOUT, folder, split, CLASSES)
