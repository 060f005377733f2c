"""RecurJac (Zhang, Zhang & Hsieh, AAAI 2019, arXiv 1810.11783): the derivatives of several layers
at once, where intervals take every layer for itself.

Let Y be the derivatives of ``rows . f`` by a node's entries. A combination ``c . Y`` goes through
the graph forwards, since derivatives go backwards: to ``c W^T . Y'`` behind an affine operator, and
behind a curve to ``c s . Y'`` with s the curve's slopes, somewhere in an interval. Of the products
``s_i Y'_i`` those whose sign is known are bounded by the one end of the interval or the other, and
the sum goes on in one piece.

Where the sign is not known RecurJac takes a constant. ``max_s s y`` is convex in y and ``min_s s
y`` concave, so the chord over the interval of y bounds them too, and is never outside of that
constant (Shi et al. 2022, arXiv 2210.07394): that is done here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from phalanx.bounds.engine import Engine
from phalanx.bounds.lipschitz.slopes import SLOPES
from phalanx.bounds.ops import Affine, Box
from phalanx.graph.ir import INPUT, Node

LARGEST = 1 << 22
"""Coefficients held at once."""


@dataclass(frozen=True, eq=False)
class Products:
    """Lines of ``s y`` for every s in an interval, y in a box: ``(S, B, *shape)`` each."""

    low_slope: Tensor
    low: Tensor
    high_slope: Tensor
    high: Tensor

    def above(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows ``(T, S, B, *shape)`` of y and a constant ``(T, S, B)`` above ``rows . (s y)``."""
        positive, negative = rows.clamp_min(0), rows.clamp_max(0)
        found = positive * self.high_slope + negative * self.low_slope
        constant = positive * self.high + negative * self.low
        return found, constant.flatten(3).sum(3)


def products(slopes: Box, y: Box) -> Products:
    """Lines through the ends where the sign of y is open, else the one slope or the other.

    >>> one = torch.ones(1, 1, 1)
    >>> found = products(Box(0 * one[0], one[0]), Box(-one, 3 * one))
    >>> found.high_slope.item(), found.high.item(), found.low_slope.item(), found.low.item()
    (0.75, 0.75, 0.25, -0.75)
    """
    least, most = slopes
    open_ = (y.lower < 0) & (y.upper > 0)
    width = torch.where(open_, y.upper - y.lower, 1.0)
    rising = y.lower >= 0

    def line(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Through ``(lower, left lower)`` and ``(upper, right upper)``."""
        chord = (right * y.upper - left * y.lower) / width
        slope = torch.where(open_, chord, torch.where(rising, right, left))
        return slope, torch.where(open_, (right - slope) * y.upper, 0.0)

    return Products(*line(most, least), *line(least, most))


class Recursion:
    """The derivatives of rows of the output by the values of an engine's graph.

    Args:
        engine: with the boxes of all values.
        rows: ``(S, B, *output shape)``.
    """

    def __init__(self, engine: Engine, rows: Tensor) -> None:
        self.engine, self.rows = engine, rows
        self._products: dict[str, Products] = {}
        self._widest = max(prod(node.shape) for node in engine.graph)

    def tightened(self, node: Node, own: Box) -> Box:
        """The box of the derivatives by a node, cut with what all that lies behind it says at once.

        It is asked node after node, the last one first.

        Args:
            node: any; what is not the input or a curve is left as it is.
            own: bounds ``(S, B, *shape)`` by intervals.
        """
        if node.op != INPUT and node.op not in SLOPES:
            return own
        slopes = None if node.op == INPUT else self._slopes(node)
        entries = _open(own, slopes).flatten(2).any(1).any(0).nonzero().squeeze(1)
        if len(entries):
            own = self._cut(node, own, entries)
        if slopes is not None:
            self._products[node.name] = products(slopes, own)
        return own

    def _slopes(self, node: Node) -> Box:
        return SLOPES[node.op](node, self.engine.boxes[node.inputs[0]])

    def _cut(self, node: Node, own: Box, entries: Tensor) -> Box:
        lower, upper = own.lower.flatten(2).clone(), own.upper.flatten(2).clone()
        size = max(1, LARGEST // (2 * self._widest * prod(self.rows.shape[:2])))
        for part in entries.split(size):
            unit = self.rows.new_zeros(len(part), prod(node.shape))
            unit[torch.arange(len(part)), part] = 1.0
            unit = torch.cat([unit, -unit]).reshape(-1, 1, 1, *node.shape)
            most = self._most(node, unit.expand(-1, *self.rows.shape[:2], *node.shape))
            high, low = most.movedim(0, 2).split(len(part), dim=2)
            upper[:, :, part] = upper[:, :, part].fmin(high)
            lower[:, :, part] = lower[:, :, part].fmax(-low)
        shape = own.lower.shape
        return Box(lower.minimum(upper).reshape(shape), lower.maximum(upper).reshape(shape))

    def _most(self, start: Node, begun: Tensor) -> Tensor:
        """Upper bounds ``(T, S, B)`` of combinations ``(T, S, B, *shape)`` of derivatives."""
        found, constant = {start.name: begun}, begun.new_zeros(begun.shape[:3])
        for node in self.engine.graph:
            if not any(name in found for name in node.inputs):
                continue
            row = self.engine.rows[node.name]
            if isinstance(row, Affine):
                shapes = node.attributes["inputs"]
                values = [
                    found[name].flatten(0, 2)
                    if name in found
                    else begun.new_zeros(constant.numel(), *shape)
                    for name, shape in zip(node.inputs, shapes, strict=True)
                ]
                moved = row.linear(node, *values)
                found[node.name] = moved.reshape(*begun.shape[:3], *node.shape)
            else:
                found[node.name], share = self._products[node.name].above(found[node.inputs[0]])
                constant = constant + share
        last = found.get(self.engine.graph.output)
        return constant if last is None else constant + (last * self.rows).flatten(3).sum(3)


def _open(own: Box, slopes: Box | None) -> Tensor:
    """Where a tighter box helps: at the input everywhere, else where two slopes may be meant."""
    if slopes is None:
        return own.lower < own.upper
    return (own.lower < 0) & (own.upper > 0) & (slopes.lower < slopes.upper)
