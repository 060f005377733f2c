"""Transposed convolution; its adjoint is a convolution."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.ops import Affine, merged, rows
from phalanx.bounds.ops.conv import CONVOLUTIONS, TRANSPOSED
from phalanx.graph.ir import Node


class ConvTranspose(Affine):
    """Weight ``(in, out / groups, ...)``."""

    def linear(self, node: Node, *values: Tensor) -> Tensor:
        """Without the bias."""
        return _spread(node, values[0], node.tensors["weight"])

    def magnitude(self, node: Node, *values: Tensor) -> Tensor:
        """With the absolute values of the weights."""
        return _spread(node, values[0], node.tensors["weight"].abs())

    def offset(self, node: Node) -> Tensor | None:
        """``b``, channel by channel."""
        bias = node.tensors.get("bias")
        return None if bias is None else bias.reshape(-1, *[1] * (len(node.shape) - 1))

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """A convolution; windows that only output padding made room for are cut off."""
        a, sizes = node.attributes, node.attributes["input"]
        function = CONVOLUTIONS[len(a["stride"]) - 1]
        weight = node.tensors["weight"]
        back = function(
            merged(rows), weight, None, a["stride"], a["padding"], a["dilation"], a["groups"]
        )
        for axis, size in enumerate(sizes[1:], 2):
            back = back.narrow(axis, 0, size)
        return [back.reshape(*rows.shape[:2], *sizes)]


def _spread(node: Node, x: Tensor, weight: Tensor) -> Tensor:
    a = node.attributes
    function = TRANSPOSED[len(a["stride"]) - 1]
    extra, groups = a["output_padding"], a["groups"]
    return function(x, weight, None, a["stride"], a["padding"], extra, groups, a["dilation"])


rows.register("conv-transpose")(ConvTranspose())
