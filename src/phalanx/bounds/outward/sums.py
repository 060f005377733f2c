"""What is known of a value, and sums of rows whose roundings are counted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from phalanx.bounds.outward.crops import Crop
from phalanx.bounds.outward.rounding import SAFE, UNDERFLOW, UNIT, down, gamma, up

Place = tuple[Tensor, Tensor]
"""Parameters of the planes of an operator, ``(S or 1, k, *shape)`` each: of those for positive
coefficients and of those for negative ones; not trusted."""


def flattened(part: Tensor) -> Tensor:
    """What rows are multiplied with: ``(n,)`` of one region, ``(B, n)`` where each row has its own.

    >>> tuple(flattened(torch.zeros(1, 2, 3)).shape), tuple(flattened(torch.zeros(4, 2, 3)).shape)
    ((6,), (4, 6))
    """
    found = part.flatten(1)
    return found[0] if len(found) == 1 else found


@dataclass(frozen=True, eq=False)
class Sides:
    """Lower and upper bounds ``(1, *shape)`` of a value; no rounding can break them.

    ``(B, *shape)`` of B regions, in passes of B rows of which each is asked on its own region.
    """

    lower: Tensor
    upper: Tensor

    @property
    def most(self) -> Tensor:
        """The largest absolute value."""
        return torch.maximum(self.lower.abs(), self.upper.abs())

    def cut(self, other: Sides) -> Sides:
        """What both say."""
        return Sides(self.lower.fmax(other.lower), self.upper.fmin(other.upper))

    def middle(self) -> tuple[Tensor, Tensor]:
        """A centre, and a radius around it that reaches both sides."""
        centre = (self.lower + self.upper) / 2
        return centre, up(torch.maximum(self.upper - centre, centre - self.lower)).clamp_min(0)


@dataclass(frozen=True, eq=False)
class Weights:
    """What rows and their absolute values are multiplied with: ``(n,)`` or ``(S, n)`` each.

    Attributes:
        middle, half: ``rows . middle - |rows| . half`` belongs to the constant; None: zeros.
        lost: ``|rows| . lost`` may have been lost, besides the roundings of these sums.
    """

    middle: Tensor | None
    half: Tensor | None
    lost: Tensor

    @staticmethod
    def of_box(sides: Sides) -> Weights:
        """The least value on a box."""
        centre, radius = (flattened(part) for part in sides.middle())
        return Weights(centre, radius, torch.zeros_like(centre))

    def cut(self, crop: Crop, shape: tuple[int, ...]) -> Weights:
        """Those of a rectangle of an image of this shape; of one region, ``(n,)`` each."""

        def of(part: Tensor) -> Tensor:
            return crop.of(part.reshape(shape)).flatten()

        middle, half = (None if part is None else of(part) for part in (self.middle, self.half))
        return Weights(middle, half, of(self.lost))

    @cached_property
    def charged(self) -> Tensor:
        """What is lost, and what the sums with the middle and the half are off by."""
        found = self.lost
        for part in (self.middle, self.half):
            if part is not None:
                found = found + gamma(part.shape[-1] + 4) * part.abs()
        return found

    @cached_property
    def faint(self) -> float:
        """What products below the normal range lose."""
        return UNDERFLOW * (3.0 + float(self.charged.sum(-1).max()))


class Sums:
    """A constant for each row, and what it may be off by; begun with zeros."""

    def __init__(self, count: int, dtype: torch.dtype) -> None:
        self.value, self.error = torch.zeros(count, dtype=dtype), torch.zeros(count, dtype=dtype)

    def add(self, value: Tensor, error: Tensor) -> None:
        """A term that is off by ``error`` at most."""
        self.value = self.value + value
        self.error = self.error + error + 2 * UNIT * self.value.abs()

    def weigh(self, rows: Tensor, size: Tensor, weights: Weights) -> None:
        """The weights of rows ``(S, n)`` with absolute values ``size``."""
        zero = torch.zeros_like(self.value)
        value = zero if weights.middle is None else _times(rows, weights.middle)
        if weights.half is not None:
            value = value - _times(size, weights.half)
            # That difference is rounded once; its parts are what `charged` is a share of.
        error = _times(size, weights.charged) * (1 + 8 * UNIT) + weights.faint
        self.add(value, error)

    def keep(self, chosen: Tensor) -> None:
        """Some of the rows."""
        self.value, self.error = self.value[chosen], self.error[chosen]

    def lose(self, share: float, rows: Tensor, size: Tensor) -> None:
        """``share |rows| . size``."""
        flat, shape = (
            rows.flatten(1).abs(),
            np.broadcast_shapes(size.shape, (1, *rows.shape[1:])),
        )
        self.error = self.error + share * _times(flat, flattened(size.expand(shape)))
        self.error = self.error + UNDERFLOW * (1 + size.sum())

    def faint(self, size: Tensor) -> None:
        """Coefficients below the normal range that were lost, of values that sum up to ``size``."""
        self.error = self.error + UNDERFLOW * size

    def lower(self) -> Tensor:
        """What is surely below; minus infinity where nothing is."""
        found = down(self.value - up(SAFE * self.error))
        return found.nan_to_num(-torch.inf, torch.inf, -torch.inf)


def _times(rows: Tensor, values: Tensor) -> Tensor:
    """Sums ``(S,)`` of products."""
    return rows @ values if values.ndim == 1 else (rows * values).sum(1)
