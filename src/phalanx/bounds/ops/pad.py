"""A constant around a value, or, with negative sizes, less of it."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.nn.functional import pad

from phalanx.bounds.ops import Affine, rows
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS


class Pad(Affine):
    """The adjoint cuts off what was put around."""

    def linear(self, node: Node, *values: Tensor) -> Tensor:
        """Zeros around it."""
        zero = replace(node, attributes={**node.attributes, "value": 0.0})
        return OPERATORS["pad"](zero, *values)

    def offset(self, node: Node) -> Tensor | None:
        """The number around zeros."""
        if not node.attributes["value"]:
            return None
        kind = node.tensors["zero"]
        return OPERATORS["pad"](node, kind.expand(1, *node.attributes["input"]))[0]

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """The middle."""
        before, after = node.attributes["before"], node.attributes["after"]
        sides = [-n for p in zip(reversed(before), reversed(after), strict=True) for n in p]
        return [pad(rows, sides)]


rows.register("pad")(Pad())
