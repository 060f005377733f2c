"""FashionMNIST: 28x28 grey images of clothes (Xiao et al. 2017), from the four IDX files."""

from __future__ import annotations

from pathlib import Path

from phalanx.data.dataset import Dataset, readers
from phalanx.data.idx import read_pair

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@readers.register("fashion-mnist")
def fashion_mnist(folder: Path | None, split: str) -> Dataset:
    """60,000 training or 10,000 test images, float32 ``(1, 28, 28)`` in ``(0, 1)``."""
    return read_pair(
        "fashion-mnist",
        folder,
        split,
        subfolders=("FashionMNIST/raw", "FashionMNIST", "fashion"),
        class_names=CLASSES,
        source="Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017",
    )
