"""Curves on intervals, as a walk needs them: lines below and above that no rounding breaks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.bounds.ops import Curve
from phalanx.bounds.ops import rows as table
from phalanx.bounds.outward.curves import gaps
from phalanx.bounds.outward.rounding import down, up
from phalanx.graph.ir import Node


def unit(kind: torch.dtype) -> float:
    """What rounding to nearest may cost, relatively.

    >>> unit(torch.float64) == 2.0**-53
    True
    """
    return torch.finfo(kind).eps / 2


def tiny(kind: torch.dtype) -> float:
    """More than what products below the normal range lose, summed up and scaled as they may be."""
    return 1e-280 if kind == torch.float64 else 1e-28


@dataclass(frozen=True, eq=False)
class Bent:
    """A curve on intervals, ``(B, n)`` each.

    Attributes:
        low_slope, low, high_slope, high: lines below and above; ``low`` None: zero.
        middle, spread: the curve is ``high_slope x + middle +- spread``.
        least, largest: its bounds.
    """

    low_slope: Tensor
    low: Tensor | None
    high_slope: Tensor
    high: Tensor
    middle: Tensor
    spread: Tensor
    least: Tensor
    largest: Tensor

    @property
    def most(self) -> Tensor:
        """Its largest absolute value."""
        return torch.maximum(self.least.abs(), self.largest.abs())


def bent(node: Node, lower: Tensor, upper: Tensor) -> Bent:
    """The usual lines of a curve on intervals ``(B, n)``.

    >>> ends = torch.tensor([[-1.0]]), torch.tensor([[3.0]])
    >>> found = bent(Node("", "relu", (), (1,)), *ends)
    >>> found.low_slope.item(), found.high_slope.item(), round(found.high.item(), 4)
    (1.0, 0.75, 0.75)
    """
    return _relu(lower, upper) if node.op == "relu" else _curve(node, lower, upper)


def _relu(lower: Tensor, upper: Tensor) -> Bent:
    below, above = lower.clamp_max(0), upper.clamp_min(0)
    width = above - below
    slope = (above / width.clamp_min(torch.finfo(width.dtype).tiny)).nan_to_num(0.0, 0.0, 0.0)
    low_slope = (above > -below).to(slope.dtype)
    # The line of the rounded slope must be above zero at the lower end, above x at the upper one,
    # where a product is rounded that is larger than what is left.
    high = torch.maximum(-slope * below, above * (1 + 4 * unit(width.dtype)) - slope * above)
    open_ = ((below < 0) & (above > 0)).to(slope.dtype)
    high = open_ * (high * (1 + 8 * unit(high.dtype)) + tiny(high.dtype))
    high = high.nan_to_num(torch.inf, torch.inf, -torch.inf)
    return Bent(low_slope, None, slope, high, high / 2, high / 2, lower.clamp_min(0), above)


def _curve(node: Node, lower: Tensor, upper: Tensor) -> Bent:
    """Lines are believed for their slopes only."""
    row = table.get(node.op)
    if not isinstance(row, Curve):
        raise TypeError(f"{node.op} is no curve")
    kind, lower, upper = lower.dtype, lower.double(), upper.double()
    lines = row.lines(node, lower, upper, None)
    low_slope, slope = (
        s.nan_to_num(0.0, 0.0, 0.0).to(kind).double()
        for s in (lines.lower_slope, lines.upper_slope)
    )
    flat = torch.zeros_like(slope)
    high = gaps(node, slope, lower, upper, above=True)
    beneath = gaps(node, slope, lower, upper, above=False)
    middle = ((high + beneath) / 2).to(kind).double()
    spread = up(torch.maximum(high - middle, middle - beneath)).clamp_min(0)
    # An infinite bound stays one: f may exceed all floats.
    least = gaps(node, flat, lower, upper, above=False)
    least = least.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    largest = gaps(node, flat, lower, upper, above=True)
    largest = largest.nan_to_num(torch.inf, torch.inf, -torch.inf)
    low = gaps(node, low_slope, lower, upper, above=False)
    if kind == torch.float64:
        return Bent(low_slope, low, slope, high, middle, spread, least, largest)
    return Bent(
        low_slope.to(kind),
        down(low.to(kind)),
        slope.to(kind),
        up(high.to(kind)),
        middle.to(kind),
        up(spread.to(kind)),
        down(least.to(kind)),
        up(largest.to(kind)),
    )
