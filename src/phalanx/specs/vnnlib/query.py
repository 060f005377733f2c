"""`Query`: a property and what its file calls things."""

from __future__ import annotations

from dataclasses import dataclass

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
