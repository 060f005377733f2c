"""``min(max(x, low), high)``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Lines, monotone, rows
from phalanx.bounds.ops._curves import chord
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS


class Clip(Curve):
    """Convex at its lower corner and concave at its upper one.

    The line above runs from the left end to the upper corner (or to the right end, where that comes
    first); where it starts above the lower corner it may also be flat. The line below mirrors it.
    Whatever the slopes are, the lines are moved to touch: a function of straight pieces strays
    furthest from a line at one of its corners.
    """

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It never falls."""
        return monotone(lambda x: OPERATORS["clip"](node, x), boxes[0])

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """Of the slopes that a hull offers, the steeper side's."""
        low, high = node.attributes["low"], node.attributes["high"]
        one = torch.ones_like(lower)

        def clipped(x: Tensor) -> Tensor:
            return OPERATORS["clip"](node, x)

        left, right = lower.clamp_min(low).minimum(upper), upper.clamp_max(high).maximum(lower)
        inside = torch.where((upper <= high) & (lower >= low), one, 0 * one)
        above = chord(lower, right, clipped(lower), clipped(right), inside)
        below = chord(left, upper, clipped(left), clipped(upper), inside)
        # From between the corners the function is concave (convex): its pieces offer 1 and 0.
        above = torch.where((lower >= low) & (upper - high > high - lower), 0 * one, above)
        below = torch.where((upper <= high) & (low - lower > upper - low), 0 * one, below)
        corners = [p.maximum(lower).minimum(upper) for p in (low * one, high * one)]
        points = torch.stack([lower, upper, *corners])
        values = clipped(points)
        return Lines(
            below, (values - below * points).amin(0), above, (values - above * points).amax(0)
        )

    def loose(self, node: Node, boxes: Sequence[Box]) -> list[Tensor]:
        """Where a corner is inside."""
        lower, upper = boxes[0]
        corners = (node.attributes["low"], node.attributes["high"])
        inside = [(lower < corner) & (upper > corner) for corner in corners]
        return [inside[0] | inside[1]]


rows.register("clip")(Clip())
