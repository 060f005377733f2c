"""Entries of one axis: slices, splits, gathers, nearest-neighbour upsampling."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.ops import Affine, rows
from phalanx.graph.ir import Node


class Take(Affine):
    """The adjoint adds up what was taken several times, and leaves zero what was not."""

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """Scattered along the axis."""
        zeros = rows.new_zeros(*rows.shape[:2], *node.attributes["input"])
        axis = node.attributes["axis"] + 2
        return [zeros.index_add(axis, node.tensors["indices"], rows)]


rows.register("take")(Take())
