"""Values one after the other along an axis."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.ops import Affine, rows
from phalanx.graph.ir import Node


class Concat(Affine):
    """The adjoint cuts."""

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """One piece an input."""
        axis = node.attributes["axis"]
        sizes = [shape[axis] for shape in node.attributes["inputs"]]
        return list(rows.split(sizes, axis + 2))


rows.register("concat")(Concat())
