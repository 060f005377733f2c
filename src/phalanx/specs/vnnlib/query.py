"""`Query`: a property and what its file calls things."""

from __future__ import annotations

from dataclasses import dataclass

from phalanx.errors import DataError
from phalanx.specs.property import Property


@dataclass(frozen=True)
class Declared:
    """A variable, or a tensor of them.

    Attributes:
        name: ``X`` or ``Y`` in version 1.0.
        kind: its type as the file has it: ``Real``, ``float32``, ...
        shape: with the batch axis, as the file has it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Query:
    """What is asked of a network.

    Attributes:
        property: what must never happen.
        version: ``1.0`` or ``2.0``.
        inputs, outputs: as declared.
        network: its name in the file; empty in version 1.0.
    """

    property: Property
    version: str
    inputs: Declared
    outputs: Declared
    network: str = ""

    def require_shapes(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        """Refuse a query whose indices would count another network's tensors.

        Version 1.0 numbers its variables and declares no shapes.

        Args:
            inputs, outputs: of the network, without a batch axis, which a file may declare as 1.

        Raises:
            DataError: tensors of other shapes.
        """
        for tensor, shape in ((self.inputs, inputs), (self.outputs, outputs)):
            if self.version == "2.0" and tensor.shape not in (shape, (1, *shape)):
                raise DataError(
                    f"the query declares {tensor.name} with shape {list(tensor.shape)}",
                    why=f"the network's is {[1, *shape]}",
                    repair="declare the network's shapes",
                )
