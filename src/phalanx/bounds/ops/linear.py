"""``x W^T + b`` along the last axis."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from phalanx.bounds.ops import Affine, rows
from phalanx.graph.ir import Node


class Linear(Affine):
    """A product with a constant matrix."""

    def linear(self, node: Node, *values: Tensor) -> Tensor:
        """``x W^T``."""
        return F.linear(values[0], node.tensors["weight"])

    def magnitude(self, node: Node, *values: Tensor) -> Tensor:
        """``x |W|^T``."""
        return F.linear(values[0], node.tensors["weight"].abs())

    def offset(self, node: Node) -> Tensor | None:
        """``b``."""
        return node.tensors.get("bias")

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """``A W``."""
        return [rows @ node.tensors["weight"]]

    def norm(self, node: Node, order: float) -> Tensor | None:
        """Of the rows of W."""
        return torch.linalg.vector_norm(node.tensors["weight"], ord=order, dim=1)

    def pick(self, node: Node, indices: Tensor) -> tuple[Tensor, Tensor | None] | None:
        """Rows of W."""
        if len(node.shape) != 1:
            return None
        bias = node.tensors.get("bias")
        flat = indices.flatten()
        rows = node.tensors["weight"].index_select(0, flat).unflatten(0, indices.shape)
        return rows, None if bias is None else bias.index_select(0, flat).reshape(indices.shape)


rows.register("linear")(Linear())
