"""The natural logarithm, of positive numbers."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.ops import rows
from phalanx.bounds.ops._curves import Bent


class Log(Bent):
    """Concave: chord below, tangent above."""

    concave = True

    def slope(self, x: Tensor) -> Tensor:
        """The derivative."""
        return 1 / x


rows.register("log")(Log())
