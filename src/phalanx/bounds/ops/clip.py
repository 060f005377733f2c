"""``min(max(x, low), high)``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

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
    furthest from a line at one of its corners. The parameters are the slopes below and above.
    """

    parameters = 2

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It never falls."""
        return monotone(lambda x: OPERATORS["clip"](node, x), boxes[0])

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """Usual ones have of the slopes that a hull offers the steeper side's."""
        below, above = self._usual(node, lower, upper)
        if place is not None:
            (loose,) = self.loose(node, [Box(lower, upper)])
            below, above = (
                torch.where(loose, p, q) for p, q in zip(place, (below, above), strict=True)
            )
        ends = node.attributes["low"], node.attributes["high"]
        corners = [torch.full_like(lower, end).maximum(lower).minimum(upper) for end in ends]
        found = [(OPERATORS["clip"](node, x), x) for x in (lower, upper, *corners)]
        least, most = ([y - slope * x for y, x in found] for slope in (below, above))
        return Lines(below, reduce(torch.minimum, least), above, reduce(torch.maximum, most))

    def start(self, node: Node, boxes: Sequence[Box], *, parallel: bool = False) -> Tensor:
        """The usual slopes; parallel ones are those of the chord."""
        if parallel:
            low, high = (OPERATORS["clip"](node, side) for side in boxes[0])
            slope = chord(*boxes[0], low, high, torch.zeros_like(low)).clamp(0, 1)
            return slope.expand(2, 1, *slope.shape)
        return torch.stack(self._usual(node, *boxes[0])).unsqueeze(1)

    def _usual(self, node: Node, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Slopes below and above."""
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
        return below, above

    def loose(self, node: Node, boxes: Sequence[Box]) -> list[Tensor]:
        """Where a corner is inside."""
        lower, upper = boxes[0]
        corners = (node.attributes["low"], node.attributes["high"])
        inside = [(lower < corner) & (upper > corner) for corner in corners]
        return [inside[0] | inside[1]]


rows.register("clip")(Clip())
