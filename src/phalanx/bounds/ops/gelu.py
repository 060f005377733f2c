"""``x Phi(x)``, and its approximation by tanh."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Lines, rows
from phalanx.bounds.ops._curves import sampled_lines
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS

LOWEST = -0.75179
"""Where it turns, to five digits (the approximation: -0.75246)."""

LEAST = -0.1701
"""Below both minima, -0.169971 and -0.170041."""

CURVATURE = 1.2
"""Above ``|f''|``: ``2 phi(0) = 0.798`` exact; the approximation's largest is 0.798 too."""


class Gelu(Curve):
    """By samples; it falls up to a minimum, then rises."""

    def interval(self, node: Node, *boxes: Box) -> Box:
        """At the ends, and the minimum where it might be inside."""
        lower, upper = boxes[0]
        ends = torch.stack([OPERATORS["gelu"](node, side) for side in (lower, upper)])
        inside = (lower < LOWEST + 0.01) & (upper > LOWEST - 0.01)
        return Box(torch.where(inside, LEAST, ends.amin(0)), ends.amax(0))

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """Parallel to the chord, or horizontal."""
        curvature = torch.full_like(lower, CURVATURE)
        box = self.interval(node, Box(lower, upper))
        return sampled_lines(lambda x: OPERATORS["gelu"](node, x), lower, upper, curvature, box)


rows.register("gelu")(Gelu())
