"""A value that is the same for every input."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from phalanx.bounds.ops import Box, Row, rows, total
from phalanx.graph.ir import Node


class Constant(Row):
    """A point."""

    def interval(self, node: Node, *boxes: Box) -> Box:
        """Both bounds are the value."""
        value = node.tensors["value"].unsqueeze(0)
        return Box(value, value)

    def backward(
        self, node: Node, boxes: Sequence[Box], rows: Tensor, place: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """All constant."""
        return [], total(rows, node.tensors["value"])


rows.register("constant")(Constant())
