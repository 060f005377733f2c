"""`Region`: the inputs a bound speaks of, and the least value of linear functions on them."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from phalanx.bounds.ops import Which, inner
from phalanx.errors import DataError, ParameterError

DUAL = {"linf": 1.0, "l2": 2.0, "l1": math.inf}
"""The exponent of the norm that a linear function's gain over a ball is measured in."""


class Ball(Protocol):
    """What is read of a threat: a norm, a radius, and the range of valid inputs."""

    @property
    def norm(self) -> str:
        """``linf``, ``l2`` or ``l1``."""

    @property
    def eps(self) -> float:
        """Radius in input units."""

    @property
    def low(self) -> float:
        """Smallest valid input."""

    @property
    def high(self) -> float:
        """Largest valid input."""


@dataclass(frozen=True, eq=False)
class Region:
    """A box for each row of a batch, cut with a ball around its centre where ``norm`` says so.

    Attributes:
        lower, upper: the box, ``(B, *shape)``.
        centre: of the ball.
        norm: ``linf`` where the box is all there is, else ``l2`` or ``l1``.
        eps: the ball's radius.

    Raises:
        DataError: NaN, an infinite side, or a lower side above the upper one.
        ParameterError: no such norm, or a radius that is negative or not finite.
    """

    lower: Tensor
    upper: Tensor
    centre: Tensor
    norm: str = "linf"
    eps: float = 0.0

    def __post_init__(self) -> None:
        if self.norm not in DUAL:
            raise ParameterError(f"there is no norm {self.norm!r}", repair="linf, l2 or l1")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ParameterError(
                f"the radius eps is {self.eps}", why="it must be finite and not negative"
            )
        if self.lower.shape != self.upper.shape:
            raise DataError(
                f"a box of lower sides {tuple(self.lower.shape)} and upper sides"
                f" {tuple(self.upper.shape)}"
            )
        finite = torch.isfinite(self.lower) & torch.isfinite(self.upper)
        if not bool((finite & (self.lower <= self.upper)).all()):
            raise DataError(
                "a box of inputs with a side that is NaN, infinite, or above the opposite one",
                why="nothing can be said of an empty set of inputs",
            )

    def __len__(self) -> int:
        return len(self.lower)

    def to(self, dtype: torch.dtype) -> Region:
        """The region in another precision (its sides rounded to nearest)."""
        sides = (self.lower.to(dtype), self.upper.to(dtype), self.centre.to(dtype))
        return Region(*sides, self.norm, self.eps)

    def element(self, index: int) -> Region:
        """One element of the batch."""
        return self.elements(slice(index, index + 1))

    def elements(self, at: slice | Tensor) -> Region:
        """Some elements of the batch, by their numbers; they need no second look."""
        found = copy(self)
        for name in ("middle", "half"):
            found.__dict__.pop(name, None)
        for name in ("lower", "upper", "centre"):
            object.__setattr__(found, name, getattr(self, name)[at])
        return found

    @cached_property
    def middle(self) -> Tensor:
        """The centre of the box ``(B, n)``."""
        return ((self.lower + self.upper) / 2).flatten(1)

    @cached_property
    def half(self) -> Tensor:
        """Half its sides ``(B, n)``."""
        return ((self.upper - self.lower) / 2).flatten(1)

    def least(self, rows: Tensor, at: Which = None) -> Tensor:
        """``min_x rows . x`` over the region: ``(S, B)`` for coefficients ``(S, B, *shape)``.

        With ``at`` ``(B,)`` the b-th coefficients are for element ``at[b]`` of the region.

        Over the box ``A m - |A| r``; over the ball ``A x0 - eps |A|_q``, q dual to the norm. Over
        both at once the larger of the two is taken, a lower bound of the minimum.

        >>> one = Region(-torch.ones(1, 2), torch.ones(1, 2), torch.zeros(1, 2), "l2", 1.0)
        >>> round(one.least(torch.tensor([[[3.0, 4.0]]])).item(), 5)
        -5.0
        """
        flat = rows.flatten(2)
        found = inner(flat, self.middle, at) - inner(flat.abs(), self.half, at)
        if self.norm == "linf":
            return found
        gain = self.eps * torch.linalg.vector_norm(flat, ord=DUAL[self.norm], dim=2)
        return torch.maximum(found, inner(flat, self.centre.flatten(1), at) - gain)

    def worst(self, rows: Tensor) -> Tensor:
        """The corner of the box where ``rows . x`` is least: ``(S, B, *shape)``."""
        return torch.where(rows > 0, self.lower, self.upper)


def ball(threat: Ball, x: Tensor) -> Region:
    """All valid inputs within the threat's radius of ``x`` ``(B, *shape)``.

    Raises:
        DataError: an input outside the valid range, NaN included.
        ParameterError: see `Region`.
    """
    if not (math.isfinite(threat.eps) and threat.eps >= 0):
        raise ParameterError(
            f"the radius eps is {threat.eps}", why="it must be finite and not negative"
        )
    if not bool(((x >= threat.low) & (x <= threat.high)).all()):
        raise DataError(
            f"some inputs lie outside of {threat.low:g} .. {threat.high:g}, or are NaN",
            why="a threat moves valid inputs to valid inputs",
            repair=f"--input-range {x.min():g} {x.max():g}",
        )
    lower, upper = (x - threat.eps).clamp_min(threat.low), (x + threat.eps).clamp_max(threat.high)
    return Region(lower, upper, x, threat.norm, threat.eps)


def box(lower: Tensor, upper: Tensor) -> Region:
    """All inputs between two corners ``(B, *shape)``."""
    return Region(lower, upper, (lower + upper) / 2)
