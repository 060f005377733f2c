"""`Threat`: what an attacker may do to an input: norm, radius, and the range of valid inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.errors import ParameterError
from phalanx.runtime.vectors import row_norms, row_sums
from phalanx.specs.geometry import into_l1_ball

NORMS = ("linf", "l2", "l1")
TOLERANCE = 1e-6
"""By how much an input may be outside of ball or box and still count as inside."""
TINY = 1e-12


@dataclass(frozen=True)
class Threat:
    """All inputs within ``eps`` of the clean one that are themselves valid inputs.

    Attributes:
        norm: ``linf``, ``l2`` or ``l1``.
        eps: radius in input units, positive.
        low, high: smallest and largest value of an input.

    Raises:
        ParameterError: no such norm, a radius that is not positive and finite, or an empty box.

    >>> Threat("linf", 8 / 255).norm
    'linf'
    """

    norm: str
    eps: float
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ParameterError(
                f"there is no norm {self.norm!r}", repair=f"one of {', '.join(NORMS)}"
            )
        try:
            values = [float(value) for value in (self.eps, self.low, self.high)]
        except (TypeError, ValueError):
            raise ParameterError(
                f"the radius is {self.eps!r} in {self.low!r} .. {self.high!r}",
                why="they are numbers",
            ) from None
        eps, low, high = values
        if not (math.isfinite(eps) and eps > 0):
            raise ParameterError(
                f"the radius eps is {self.eps}",
                why="it must be positive and finite, in the units of the input",
                repair="--eps 8/255",
            )
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ParameterError(
                f"the input range is {self.low} .. {self.high}",
                why="it must be two finite numbers in increasing order",
                repair="--input-range 0 1",
            )
        for name, value in zip(("eps", "low", "high"), values, strict=True):
            object.__setattr__(self, name, value)

    def distance(self, x: Tensor, moved: Tensor) -> Tensor:
        """How far every row was moved, in this norm: float64 ``(B,)``.

        >>> Threat("l1", 1.0).distance(torch.zeros(1, 2), torch.ones(1, 2)).item()
        2.0
        """
        return self.length(moved.double() - x.double())

    def length(self, move: Tensor) -> Tensor:
        """The norm of every row ``(B, *shape)``: ``(B,)``."""
        rows = move.flatten(1)
        if self.norm == "linf":
            return rows.abs().amax(1)
        return row_norms(rows) if self.norm == "l2" else row_sums(rows.abs())

    def dual(self, gradient: Tensor) -> Tensor:
        """The dual norm of every row ``(B, *shape)``: what a linear function gains per radius.

        >>> Threat("linf", 1.0).dual(torch.tensor([[1.0, -2.0]])).item()
        3.0
        """
        rows = gradient.flatten(1)
        if self.norm == "linf":
            return row_sums(rows.abs())
        return row_norms(rows) if self.norm == "l2" else rows.abs().amax(1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The move of length 1 along which a linear function rises most; 0 where it is flat.

        >>> Threat("l1", 1.0).steepest(torch.tensor([[1.0, -2.0]])).tolist()
        [[0.0, -1.0]]
        """
        if self.norm == "linf":
            return gradient.sign()
        if self.norm == "l2":
            return gradient / spread(self.length(gradient).clamp_min(TINY), gradient)
        rows = gradient.flatten(1)
        at = rows.abs().argmax(1, keepdim=True)
        return torch.zeros_like(rows).scatter(1, at, rows.gather(1, at).sign()).view_as(gradient)

    def project(self, x: Tensor, moved: Tensor) -> Tensor:
        """``moved`` ``(B, *shape)`` brought into ball and box, up to rounding.

        The nearest point for linf and l1. For l2 the move is shortened, then cut at the box, which
        only shortens it further because ``x`` is in the box.
        """
        if self.norm == "linf":
            near = (moved - x).clamp_(-self.eps, self.eps).add_(x)
            return near.clamp_(self.low, self.high)
        if self.norm == "l2":
            move = moved - x
            scale = (self.eps / self.length(move).clamp_min(TINY)).clamp_max(1.0)
            return (x + move * spread(scale, move)).clamp(self.low, self.high)
        near = into_l1_ball(x.flatten(1), moved.flatten(1), self.eps, self.low, self.high)
        return near.view_as(x)

    def confine(self, x: Tensor, moved: Tensor) -> Tensor:
        """``moved``, inside ball and box without the help of a tolerance.

        In float64 the move is cut at the box and scaled into the ball; where rounding to the
        input's type would lengthen a coordinate's move, its neighbour nearer to ``x`` is taken.
        Rows of NaN stay NaN.
        """
        start = x.double()
        move = moved.double().clamp(self.low, self.high) - start
        if self.norm == "linf":
            move = move.clamp(-self.eps, self.eps)
        else:
            scale = (self.eps / self.length(move).clamp_min(TINY)).clamp_max(1.0)
            move = move * spread(scale, move)
        near = (start + move).to(x.dtype)
        beyond = (near.double() - start).abs() > move.abs()
        return torch.where(beyond, torch.nextafter(near, x), near)

    def contains(self, x: Tensor, moved: Tensor, tolerance: float = TOLERANCE) -> Tensor:
        """Whether every row is in ball and box: bool ``(B,)``; False for NaN.

        >>> threat, x = Threat("linf", 0.25), torch.full((1, 3), 0.5)
        >>> [threat.contains(x, x + move).item() for move in (0.25, 0.26)]
        [True, False]
        """
        rows = moved.flatten(1).double()
        inside = (rows >= self.low - tolerance) & (rows <= self.high + tolerance)
        return inside.all(1) & (self.distance(x, moved) <= self.eps + tolerance)

    def random_start(self, x: Tensor, noise: Tensor) -> Tensor:
        """A point of ball and box.

        Args:
            x: ``(B, *shape)``.
            noise: like ``x``: uniform in [-1, 1] for linf, else standard normal.

        Returns:
            For linf uniform in the ball; for l2 and l1 a random direction on the ball's surface
            (l1: the projection of the noise). Then cut at the box.
        """
        if self.norm == "linf":
            return self.project(x, x + self.eps * noise)
        if self.norm == "l2":
            return self.project(x, x + self.eps * self.steepest(noise))
        return self.project(x, x + noise)


def spread(values: Tensor, like: Tensor) -> Tensor:
    """One value a row, with the axes of ``like``."""
    return values.view(-1, *[1] * (like.ndim - 1)).to(like.dtype)
