"""The sum of two variables."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.ops import Affine, rows
from phalanx.bounds.ops.expand import summed_to
from phalanx.graph.ir import Node


class Add(Affine):
    """Either may be broadcast."""

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """The same rows for both."""
        return [summed_to(rows, shape) for shape in node.attributes["inputs"]]


rows.register("add")(Add())
