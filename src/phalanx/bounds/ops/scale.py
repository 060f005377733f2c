"""``weight * x + bias``, number by number."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.ops import Affine, rows
from phalanx.bounds.ops.expand import summed_to
from phalanx.graph.ir import Node


class Scale(Affine):
    """Weight and bias broadcast; either may be absent."""

    def linear(self, node: Node, *values: Tensor) -> Tensor:
        """The weight alone, in the node's shape."""
        return _times(node, values[0], node.tensors.get("weight"))

    def magnitude(self, node: Node, *values: Tensor) -> Tensor:
        """Its absolute value."""
        weight = node.tensors.get("weight")
        return _times(node, values[0], None if weight is None else weight.abs())

    def offset(self, node: Node) -> Tensor | None:
        """The bias."""
        return node.tensors.get("bias")

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """The weight again; where x was broadcast, a sum."""
        found = rows if "weight" not in node.tensors else rows * node.tensors["weight"]
        return [summed_to(found, node.attributes["input"])]


def _times(node: Node, x: Tensor, weight: Tensor | None) -> Tensor:
    y = x if weight is None else x * weight
    return y.expand(len(y), *node.shape)


rows.register("scale")(Scale())
