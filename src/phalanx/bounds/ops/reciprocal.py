"""``1 / x``, of numbers of one sign."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Lines, rows
from phalanx.bounds.ops._curves import Bent, chosen, convex_lines, flat, flipped, mirrored
from phalanx.graph.ir import Node


class Reciprocal(Bent):
    """Convex above zero, concave below; nothing is known where zero is among the inputs."""

    def slope(self, x: Tensor) -> Tensor:
        """The derivative."""
        return -1 / x.square()

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It falls."""
        lower, upper = boxes[0]
        known = (lower > 0) | (upper < 0)
        return Box(
            torch.where(known, 1 / upper, -torch.inf), torch.where(known, 1 / lower, torch.inf)
        )

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """Of a negative interval by ``1 / x = -(1 / -x)``."""
        share = 0.5 if place is None else place[0]
        negative = upper < 0
        low, high = torch.where(negative, -upper, lower), torch.where(negative, -lower, upper)
        # The tangent at the geometric mean is parallel to the chord.
        at = (low * high).sqrt() if place is None else low + share * (high - low)
        found = convex_lines(torch.reciprocal, self.slope, low, high, at)
        signed = chosen(negative, flipped(mirrored(found)), found)
        known = (lower > 0) | negative
        nothing = flat(Box(torch.full_like(lower, -torch.inf), torch.full_like(lower, torch.inf)))
        return chosen(known, signed, nothing)


rows.register("reciprocal")(Reciprocal())
