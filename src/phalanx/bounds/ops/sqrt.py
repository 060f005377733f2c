"""The square root, of numbers above zero."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.ops import rows
from phalanx.bounds.ops._curves import Bent


class Sqrt(Bent):
    """Concave: chord below, tangent above."""

    concave = True

    def slope(self, x: Tensor) -> Tensor:
        """The derivative."""
        return 0.5 / x.sqrt()


rows.register("sqrt")(Sqrt())
