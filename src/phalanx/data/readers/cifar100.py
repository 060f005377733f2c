"""CIFAR-100: 32x32 colour images of a hundred fine classes, from the binary files."""

from __future__ import annotations

from pathlib import Path

from phalanx.data.cifar import Layout, read_split
from phalanx.data.dataset import Dataset, readers

LAYOUT = Layout(
    name="cifar100",
    label_bytes=2,
    classes=100,
    files={"train": ("train.bin",), "test": ("test.bin",)},
    subfolders=("cifar100/cifar-100-binary", "cifar-100-binary", "cifar-100"),
)


@readers.register("cifar100")
def cifar100(folder: Path | None, split: str) -> Dataset:
    """50,000 training or 10,000 test images, float32 ``(3, 32, 32)`` in ``(0, 1)``, fine labels.

    Class names come from ``fine_label_names.txt`` where it lies beside the images.
    """
    return read_split(LAYOUT, folder, split)
