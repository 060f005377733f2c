"""Axes in another order."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.ops import Affine, rows
from phalanx.graph.ir import Node


class Transpose(Affine):
    """The adjoint is the inverse permutation."""

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """Axis i of the output was axis ``permutation[i]``."""
        order = node.attributes["permutation"]
        back = sorted(range(len(order)), key=order.__getitem__)
        return [rows.permute(0, 1, *(axis + 2 for axis in back))]


rows.register("transpose")(Transpose())
