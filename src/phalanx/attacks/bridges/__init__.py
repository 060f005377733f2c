"""Our models as those of other attack libraries; each is imported when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from torch import Tensor

from phalanx.errors import MissingDependencyError
from phalanx.models.model import InputSpec


class Classifier(Protocol):
    """A `Model` or an `Ensemble`."""

    @property
    def inputs(self) -> InputSpec:
        """What it expects."""
        ...

    @property
    def classes(self) -> int:
        """How many it names."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Scores ``(B, C)``."""
        ...

    def eval(self) -> Any:
        """Set it to evaluation mode."""
        ...

    def parameters(self) -> Any:
        """Its weights."""
        ...


def imported(module: str, package: str) -> Any:
    """Somebody else's module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"this needs {package}", why=str(error), repair="pip install 'phalanx[attacks]'"
        ) from error
