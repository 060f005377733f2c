"""Broadcasting to a larger shape."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from phalanx.bounds.ops import Affine, rows
from phalanx.graph.ir import Node


class Expand(Affine):
    """Copies; the adjoint adds them up."""

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """Sum over the axes that were put in or repeated."""
        return [summed_to(rows, node.attributes["input"])]


def summed_to(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """Rows ``(S, B, *larger)`` of a broadcast value as rows of the value ``(S, B, *shape)``."""
    extra = rows.ndim - 2 - len(shape)
    if extra:
        rows = rows.flatten(2, 1 + extra).sum(2) if extra > 1 else rows.sum(2)
    axes = [i + 2 for i, n in enumerate(shape) if n == 1 and rows.shape[i + 2] != 1]
    return rows.sum(axes, keepdim=True) if axes else rows


rows.register("expand")(Expand())
