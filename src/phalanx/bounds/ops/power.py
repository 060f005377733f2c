"""``x^p`` for a constant p."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Lines, rows
from phalanx.bounds.ops._curves import Smooth, chosen, extremes, flat
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS


class Power(Smooth):
    """By samples; whole exponents on all numbers, others on positive ones."""

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It turns at zero, if anywhere; a pole or a root of a negative number bounds nothing."""
        found = extremes(lambda x: OPERATORS["power"](node, x), boxes[0], (0.0,))
        known = _defined(node, *boxes[0])
        return Box(
            torch.where(known, found.lower, -torch.inf), torch.where(known, found.upper, torch.inf)
        )

    def curvature(self, node: Node, lower: Tensor, upper: Tensor) -> Tensor:
        """``|f''| = |p (p - 1)| |x|^(p - 2)`` is largest at one of the ends."""
        p = node.attributes["exponent"]
        ends = torch.stack([lower.abs(), upper.abs()])
        if p >= 2:
            return abs(p * (p - 1)) * ends.amax(0) ** (p - 2)
        nearest = torch.where((lower <= 0) & (upper >= 0), torch.zeros_like(lower), ends.amin(0))
        return abs(p * (p - 1)) * nearest ** (p - 2)

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """By samples; horizontal where it is not defined."""
        found = super().lines(node, lower, upper, place)
        box = self.interval(node, Box(lower, upper))
        return chosen(_defined(node, lower, upper), found, flat(box))


def _defined(node: Node, lower: Tensor, upper: Tensor) -> Tensor:
    p = node.attributes["exponent"]
    whole = p == int(p)
    if whole and p >= 0:
        return torch.ones_like(lower, dtype=torch.bool)
    return (lower > 0) | ((upper < 0) & whole)


rows.register("power")(Power())
