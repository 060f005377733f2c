"""Our model as the Adversarial Robustness Toolbox's (Nicolae et al., 2018)."""

from __future__ import annotations

from typing import Any

from torch import nn

from phalanx.attacks.bridges import Classifier, imported
from phalanx.attacks.target import device_of
from phalanx.errors import ModelError


def art_classifier(model: Classifier, shape: tuple[int, ...] | None = None) -> Any:
    """An ART ``PyTorchClassifier`` with the model's range as clip values.

    Args:
        model: a `Model` or an `Ensemble`, in evaluation mode.
        shape: of one input, where the model does not say it.

    Raises:
        MissingDependencyError: ART is not installed. ModelError: nobody knows the shape.
    """
    shape = shape or model.inputs.shape
    if shape is None:
        raise ModelError("the shape of the inputs is not known", repair="shape=(3, 32, 32)")
    classification = imported("art.estimators.classification", "the Adversarial Robustness Toolbox")
    device = device_of(model)  # type: ignore[arg-type]
    return classification.PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(shape),
        nb_classes=model.classes,
        clip_values=model.inputs.range,
        device_type="cpu" if device.type == "cpu" else "gpu",
    )
