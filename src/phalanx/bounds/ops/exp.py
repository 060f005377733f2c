"""``e^x``."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import rows
from phalanx.bounds.ops._curves import Bent


class Exp(Bent):
    """Convex: tangent below, chord above."""

    def slope(self, x: Tensor) -> Tensor:
        """The derivative."""
        return torch.exp(x)

    def touch(self, lower: Tensor, upper: Tensor) -> Tensor:
        """At most one above the lower end: the tangent is positive there."""
        return torch.minimum((lower + upper) / 2, lower + 0.99)


rows.register("exp")(Exp())
