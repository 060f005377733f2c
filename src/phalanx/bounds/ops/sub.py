"""The difference of two variables."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.ops import Affine, rows
from phalanx.bounds.ops.expand import summed_to
from phalanx.graph.ir import Node


class Sub(Affine):
    """Either may be broadcast."""

    def magnitude(self, node: Node, *values: Tensor) -> Tensor:
        """A sum."""
        return values[0] + values[1]

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """Opposite rows."""
        first, second = node.attributes["inputs"]
        return [summed_to(rows, first), -summed_to(rows, second)]


rows.register("sub")(Sub())
