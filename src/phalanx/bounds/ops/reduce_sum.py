"""Sums over axes, which stay with size one."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.ops import Affine, rows
from phalanx.graph.ir import Node


class ReduceSum(Affine):
    """The adjoint copies."""

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """To the input's shape."""
        return [rows.expand(*rows.shape[:2], *node.attributes["input"])]


rows.register("reduce-sum")(ReduceSum())
