"""`Dataset`: images as float32 NCHW tensors in a declared range, and a card that says which.

Readers are the other files of this package, one a format; each registers itself under the
name the command line uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from phalanx.errors import DataError, ParameterError
from phalanx.registry import Registry

Fetch = Callable[[Sequence[int]], Tensor]


@dataclass(frozen=True)
class DataCard:
    """What a data set is. ``value_range`` is the range of the tensors it hands out.

    ``shape`` is one input without the batch axis, ``(C, H, W)`` for images or ``(d,)`` for
    rows; None where images differ until they are cropped. ``checksums`` maps file names to
    SHA-256 hex digests and is part of a run's identity. ``levels`` says how values are quantised:
    they are ``low + n (high - low) / levels`` for whole numbers n, up to the rounding of
    float32 (bytes: 255), or None where they are not.
    """

    name: str
    split: str
    shape: tuple[int, ...]
    classes: int | None
    images: int
    value_range: tuple[float, float] = (0.0, 1.0)
    class_names: tuple[str, ...] = ()
    checksums: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    preprocessing: str = "none"
    levels: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values, for a run's manifest; checksums fix the values, and these their levels."""
        return {name: value for name, value in asdict(self).items() if name != "levels"}


class Dataset:
    """An indexable set of inputs with optional labels.

    Args:
        card: what it is.
        fetch: indices -> float32 tensor ``(len(indices), *card.shape)`` in ``card.value_range``.
        labels: int64 tensor ``(images,)`` or None (then accuracy is absent, not zero).

    Raises:
        DataError: no images, or labels that do not fit the card.
    """

    def __init__(self, card: DataCard, fetch: Fetch, labels: Tensor | None = None) -> None:
        if card.images == 0:
            raise DataError(f"data set {card.name!r} ({card.split}) is empty")
        if labels is not None:
            _check_labels(card, labels)
        self.card, self._fetch, self._labels = card, fetch, labels

    def __len__(self) -> int:
        return self.card.images

    @property
    def labelled(self) -> bool:
        """Whether accuracy can be computed."""
        return self._labels is not None

    def images(self, indices: Sequence[int]) -> Tensor:
        """The inputs at ``indices``: float32 ``(len(indices), *shape)`` in ``value_range``."""
        return self._fetch(indices)

    def labels(self, indices: Sequence[int]) -> Tensor:
        """int64 ``(len(indices),)``. Raises DataError when there are no labels."""
        if self._labels is None:
            raise DataError(f"data set {self.card.name!r} has no labels")
        return self._labels[torch.as_tensor(indices, dtype=torch.int64)]

    def label(self, index: int) -> int | None:
        """The label of one image, or None."""
        return None if self._labels is None else int(self._labels[index])

    def select(self, *, every: int = 1, limit: int | None = None) -> list[int]:
        """Indices 0, every, 2 every, ... (the literature's subsets), at most ``limit``."""
        if every < 1:
            raise ParameterError(f"--every is {every}", why="it is a stride of at least 1")
        if limit is not None and limit < 1:
            raise ParameterError(f"--limit is {limit}", why="it is a number of images, at least 1")
        return list(range(0, len(self), every))[:limit]


def _check_labels(card: DataCard, labels: Tensor) -> None:
    if labels.ndim != 1 or len(labels) != card.images:
        raise DataError(
            f"data set {card.name!r} has {card.images} images and labels of shape"
            f" {tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (card.classes is not None and high >= card.classes):
        raise DataError(
            f"data set {card.name!r} has labels from {low} to {high}",
            why=f"they must lie in 0..{(card.classes or high + 1) - 1}",
        )


Reader = Callable[..., Dataset]
"""``reader(folder: Path | None, split: str) -> Dataset``; ``split`` is "train" or "test"."""

readers: Registry[Reader] = Registry("data", "phalanx.data.readers", noun="data set")
