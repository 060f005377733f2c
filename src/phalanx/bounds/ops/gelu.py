"""``x Phi(x)``, and its approximation by tanh."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Lines, rows
from phalanx.bounds.ops._curves import Smooth
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS

LOWEST = -0.75179
"""Where it turns, to five digits (the approximation: -0.75246)."""

LEAST = -0.1701
"""Below both minima, -0.169971 and -0.170041."""

CURVATURE = 1.2
"""Above ``|f''|``: ``2 phi(0) = 0.798`` exact; the approximation's largest is 0.798 too."""


class Gelu(Smooth):
    """By samples; it falls up to a minimum, then rises.

    The attribute ``error`` is how far a file's own constants may take it from these formulas.
    """

    def interval(self, node: Node, *boxes: Box) -> Box:
        """At the ends, and the minimum where it might be inside."""
        lower, upper = boxes[0]
        ends = torch.stack([OPERATORS["gelu"](node, side) for side in (lower, upper)])
        inside = (lower < LOWEST + 0.01) & (upper > LOWEST - 0.01)
        error = node.attributes.get("error", 0.0)
        return Box(torch.where(inside, LEAST, ends.amin(0)) - error, ends.amax(0) + error)

    def curvature(self, node: Node, lower: Tensor, upper: Tensor) -> Tensor:
        """Of either form."""
        return torch.full_like(lower, CURVATURE)

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """By samples, further apart by the ``error``."""
        found = super().lines(node, lower, upper, place)
        error = node.attributes.get("error", 0.0)
        if not error:
            return found
        below = torch.zeros_like(lower) if found.lower_offset is None else found.lower_offset
        above = torch.zeros_like(upper) if found.upper_offset is None else found.upper_offset
        return replace(found, lower_offset=below - error, upper_offset=above + error)


rows.register("gelu")(Gelu())
