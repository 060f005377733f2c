"""What a training tells whoever watches it; plain values that travel between processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Members = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """A moment inside an epoch: running means since the epoch began."""

    members: Members
    done: int
    total: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class EpochEnd:
    """A finished epoch's row of the log; sent again for every earlier epoch on resuming.

    ``row``: members, epoch, loss, noisy_accuracy (both over the epoch, while training), lr,
    seconds, and the loss's further metrics. ``epochs``: of this stage of the training.
    ``replayed``: finished by an earlier process.
    """

    members: Members
    row: dict[str, Any]
    epochs: int
    replayed: bool = False


@dataclass(frozen=True)
class Saved:
    """The members are trained and their checkpoints are on disk."""

    members: Members


Event = Step | EpochEnd | Saved
Watch = Callable[[Event], None]


def ignore(_: Event) -> None:
    """Watch nothing."""
