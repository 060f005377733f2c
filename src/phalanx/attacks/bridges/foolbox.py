"""Our model as foolbox's (Rauber et al., JOSS 2020)."""

from __future__ import annotations

from typing import Any

from phalanx.attacks.bridges import Classifier, imported
from phalanx.attacks.target import device_of


def foolbox_model(model: Classifier) -> Any:
    """A ``foolbox.PyTorchModel`` with the model's range as bounds; normalisation stays inside.

    Args:
        model: a `Model` or an `Ensemble`, in evaluation mode.

    Raises:
        MissingDependencyError: foolbox is not installed.
    """
    foolbox = imported("foolbox", "foolbox")
    device = device_of(model)  # type: ignore[arg-type]
    return foolbox.PyTorchModel(model, bounds=model.inputs.range, device=device)
