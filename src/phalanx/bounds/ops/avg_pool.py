"""Means of windows whose padding does not count (all others have become convolutions)."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import Affine, merged, rows
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS


class AvgPool(Affine):
    """The adjoint is that of torch's own."""

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """By a product with the transposed Jacobian."""
        flat = merged(rows)
        start = rows.new_zeros(len(flat), *node.attributes["input"])
        back = torch.func.vjp(lambda x: OPERATORS["avg-pool"](node, x), start)[1]
        return [back(flat)[0].reshape(*rows.shape[:2], *node.attributes["input"])]


rows.register("avg-pool")(AvgPool())
