"""The state a training resumes from: written whole or not at all, read without code."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phalanx.errors import CheckpointError
from phalanx.runs.manifest import write_atomically

FORMAT = 1


@dataclass
class TrainingState:
    """Where a training stands, beside its weights and the optimiser's tensors.

    Attributes:
        epoch: epochs finished.
        step: steps finished in the running epoch.
        sums: float64 ``(3,)``: loss times rows, correct noisy predictions, predictions of the
            running epoch.
        extra: sums of the loss's further metrics, by name, each times rows.
        seconds: spent in the running epoch.
        history: one row for each finished epoch.
    """

    epoch: int = 0
    step: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    extra: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def write_state(
    path: Path, state: TrainingState, weights: dict[str, Tensor], optimizer: dict[str, Any]
) -> None:
    """Replace the file at ``path``. Raises StorageError."""
    buffer = io.BytesIO()
    content = {"format": FORMAT, "state": vars(state), "weights": weights, "optimizer": optimizer}
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def read_state(path: Path) -> tuple[TrainingState, dict[str, Tensor], dict[str, Any]]:
    """What `write_state` wrote: state, weights, optimiser state, all on the CPU.

    Raises:
        CheckpointError: the file is damaged or is not one of ours; nothing in it is executed.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise KeyError(f"format {content['format']}")
        return TrainingState(**content["state"]), content["weights"], content["optimizer"]
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"the training state {path} cannot be read",
            why=f"it is damaged or was not written by phalanx ({type(error).__name__})",
            repair="delete this file: its members start again, the others are kept",
        ) from error
