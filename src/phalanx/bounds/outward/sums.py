"""What is known of a value, and sums of rows whose roundings are counted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.bounds.outward.rounding import SAFE, UNDERFLOW, UNIT, dot, down, up


@dataclass(frozen=True, eq=False)
class Sides:
    """Lower and upper bounds ``(1, *shape)`` of a value; no rounding can break them."""

    lower: Tensor
    upper: Tensor

    @property
    def most(self) -> Tensor:
        """The largest absolute value."""
        return torch.maximum(self.lower.abs(), self.upper.abs())

    def middle(self) -> tuple[Tensor, Tensor]:
        """A centre, and a radius around it that reaches both sides."""
        centre = (self.lower + self.upper) / 2
        return centre, up(torch.maximum(self.upper - centre, centre - self.lower)).clamp_min(0)


class Sums:
    """A constant for each row, and what it may be off by; begun with zeros."""

    def __init__(self, count: int, dtype: torch.dtype) -> None:
        self.value, self.error = torch.zeros(count, dtype=dtype), torch.zeros(count, dtype=dtype)

    def add(self, value: Tensor, error: Tensor) -> None:
        """A term that is off by ``error`` at most."""
        self.value = self.value + value
        self.error = self.error + error + 2 * UNIT * self.value.abs()

    def lose(self, share: float, rows: Tensor, size: Tensor) -> None:
        """``share |rows| . size``."""
        flat = rows.flatten(1).abs()
        self.error = self.error + share * (flat @ size.expand(1, *rows.shape[1:]).flatten())
        self.error = self.error + UNDERFLOW * (1 + size.sum())

    def faint(self, size: Tensor) -> None:
        """Coefficients below the normal range that were lost, of values up to ``size``."""
        self.error = self.error + UNDERFLOW * size.sum()

    def lower(self) -> Tensor:
        """What is surely below; minus infinity where nothing is."""
        found = down(self.value - up(SAFE * self.error))
        return found.nan_to_num(-torch.inf, torch.inf, -torch.inf)


def on_box(rows: Tensor, sides: Sides) -> tuple[Tensor, Tensor]:
    """The least value of rows on a box, and what it may be off by."""
    centre, radius = sides.middle()
    middle, lost = dot(rows, centre)
    reach, more = dot(rows.abs(), radius)
    return middle - reach, lost + more + UNIT * (middle.abs() + reach)
