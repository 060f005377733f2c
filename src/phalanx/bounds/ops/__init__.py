"""One row an operator: what every bounding method asks of it.

A file registers the row of the operator it is named after. There are three kinds:

* `Affine`: its linear part and the adjoint of that (``adjoint``), and the linear part with every
  coefficient made positive (``magnitude``), from which interval, zonotope and linear bounds
  follow;
* `Curve`: one function of one number, by lines above and below it on an interval (``lines``),
  which may be moved by parameters in [0, 1];
* `Joint`: several variables at once, by planes.

Tensors of a batch are ``(B, *shape)``. Coefficients of linear functions ("rows") are
``(S, B, *shape)``: S functions for every element of the batch.

All bounds are those of real arithmetic, up to the roundings of the type they are computed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS
from phalanx.registry import Registry


class Box(NamedTuple):
    """Lower and upper bounds of a value, ``(B, *shape)`` each."""

    lower: Tensor
    upper: Tensor

    @property
    def centre(self) -> Tensor:
        """Half-way between them."""
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """Half the distance between them."""
        return (self.upper - self.lower) / 2


@dataclass(frozen=True, eq=False)
class Lines:
    """``lower_slope x + lower_offset <= f(x) <= upper_slope x + upper_offset`` on an interval.

    ``(B, *shape)`` or, where parameters differ from row to row, ``(S, B, *shape)``. An offset of
    None is zero.
    """

    lower_slope: Tensor
    lower_offset: Tensor | None
    upper_slope: Tensor
    upper_offset: Tensor | None

    @cached_property
    def gap(self) -> Tensor:
        """What the slope above exceeds that below by."""
        return self.upper_slope - self.lower_slope

    def part(self, at: Which, kept: Tensor | None) -> Lines:
        """Those of one element, of some entries of a flat value."""

        def of(side: Tensor) -> Tensor:
            side = taken(side, at)
            return side if kept is None else side.index_select(1, kept)

        low, high = self.lower_offset, self.upper_offset
        return Lines(
            of(self.lower_slope),
            None if low is None else of(low),
            of(self.upper_slope),
            None if high is None else of(high),
        )


class Cut(StrEnum):
    """Where branch and bound cuts the interval of what an operator reads."""

    NEVER = "no"
    SIGN = "sign"
    TURN = "turn"
    HALVES = "halves"
    PAIRS = "pairs"


class Row:
    """What all kinds have in common."""

    parameters = 0
    """How many numbers in [0, 1] move the relaxation of one output; of max-pooling, for each entry
    of its window."""

    cut: Cut = Cut.NEVER
    """At zero, where it is straight on both sides (``SIGN``) or, where zero lies well inside, bends
    the other way (``TURN``); in ``HALVES``; where two of its arguments change places (``PAIRS``);
    or not at all."""

    def interval(self, node: Node, *boxes: Box) -> Box:
        """Bounds of the output from bounds of the inputs."""
        raise NotImplementedError

    def backward(
        self, node: Node, boxes: Sequence[Box], rows: Tensor, place: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Rows of the inputs and a constant ``(S, B)`` below the given rows of the output.

        Args:
            node: the operator.
            boxes: bounds of its inputs, within which the answer must hold.
            rows: ``(S, B, *node.shape)``.
            place: the relaxation's parameters ``(P, S or 1, B, *shape)``; None: usual ones.
        """
        raise NotImplementedError

    def start(self, node: Node, boxes: Sequence[Box], *, parallel: bool = False) -> Tensor:
        """The usual parameters ``(P, 1, B, *shape)``, to begin an optimisation with.

        ``parallel`` asks for what is below to be parallel to what is above, where there is such a
        choice.
        """
        raise TypeError(f"{node.op} has no parameters")

    def loose(self, node: Node, boxes: Sequence[Box]) -> list[Tensor]:
        """For each input, where tighter bounds of it would tighten the relaxation."""
        return [torch.zeros_like(box.lower, dtype=torch.bool) for box in boxes]


class Affine(Row):
    """``f(x) = linear(x) + offset``; by default all coefficients are zero or positive."""

    def linear(self, node: Node, *values: Tensor) -> Tensor:
        """The linear part."""
        return OPERATORS[node.op](node, *values)

    def magnitude(self, node: Node, *values: Tensor) -> Tensor:
        """The linear part with the absolute values of its coefficients."""
        return self.linear(node, *values)

    def offset(self, node: Node) -> Tensor | None:
        """The constant part, broadcasting against ``(B, *shape)``."""
        return None

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """Rows ``(S, B, *input shape)`` with ``adjoint(rows) . x = rows . linear(x)``."""
        raise NotImplementedError

    def interval(self, node: Node, *boxes: Box) -> Box:
        """Around the image of the centre."""
        middle = self.linear(node, *(box.centre for box in boxes))
        if (offset := self.offset(node)) is not None:
            middle = middle + offset
        radius = self.magnitude(node, *(box.radius for box in boxes))
        return Box(middle - radius, middle + radius)

    def backward(
        self, node: Node, boxes: Sequence[Box], rows: Tensor, place: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Exact."""
        offset = self.offset(node)
        constant = None if offset is None else total(rows, offset)
        return self.adjoint(node, rows), constant

    def norm(self, node: Node, order: float) -> Tensor | None:
        """Norms of the rows of coefficients or more, broadcasting against ``(B, *shape)``."""
        return None

    def pick(self, node: Node, indices: Tensor) -> tuple[Tensor, Tensor | None] | None:
        """Adjoint and constant of unit rows; None: make them and ask `backward`.

        Args:
            node: the operator.
            indices: ``(S, B)`` into the flat output.
        """
        return None


class Curve(Row):
    """One function of one number, applied everywhere."""

    cut = Cut.HALVES

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """Lines on ``[lower, upper]``; ``place`` as in `backward`."""
        raise NotImplementedError

    def start(self, node: Node, boxes: Sequence[Box], *, parallel: bool = False) -> Tensor:
        """Half-way, wherever that is."""
        half = torch.full_like(boxes[0].lower, 0.5)
        return half.expand(self.parameters, 1, *half.shape)

    def dead(self, box: Box) -> Tensor | None:
        """Where the output is zero for certain, and both lines with it, whatever the parameters."""
        return None

    def loose(self, node: Node, boxes: Sequence[Box]) -> list[Tensor]:
        """Wherever the interval is not a point."""
        return [boxes[0].lower < boxes[0].upper]

    def backward(
        self, node: Node, boxes: Sequence[Box], rows: Tensor, place: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Positive coefficients take the lower line, negative ones the upper."""
        found, constant = beneath(rows, self.lines(node, *boxes[0], place))
        return [found], constant


def beneath(rows: Tensor, lines: Lines, at: Which = None) -> tuple[Tensor, Tensor | None]:
    """Rows of x and a constant ``(S, B)`` below rows of ``f(x)``.

    With ``at`` the lines are of a whole batch, and these are the elements of it that rows are for.

    >>> lines = Lines(torch.zeros(1, 1), None, torch.ones(1, 1), torch.ones(1, 1))
    >>> beneath(torch.tensor([[[2.0]], [[-2.0]]]), lines)[1].flatten().tolist()
    [0.0, -2.0]
    """
    negative = rows.clamp_max(0)
    gap = taken(lines.gap, at)
    found = rows * taken(lines.lower_slope, at)
    if found.requires_grad or gap.requires_grad:
        found = found + negative * gap
    else:
        found.addcmul_(negative, gap)
    constant: Tensor | None = None
    if lines.lower_offset is not None:
        constant = total(rows.clamp_min(0), lines.lower_offset, at)
    if lines.upper_offset is not None:
        share = total(negative, lines.upper_offset, at)
        constant = share if constant is None else constant + share
    return found, constant


class Joint(Row):
    """Several variables at once."""

    followed = False
    """Whether zonotopes go through it."""

    bilinear = False
    """Whether it is linear in each of two variables, so that a zonotope of theirs has its image."""

    def start(self, node: Node, boxes: Sequence[Box], *, parallel: bool = False) -> Tensor:
        """All planes of the one kind, or half of them of the other."""
        shape = (self.parameters, 1, max(len(box.lower) for box in boxes), *node.shape)
        return torch.full(shape, 0.5 if parallel else 0.0, dtype=boxes[0].lower.dtype)


def turned(rows: Tensor, place: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """What of rows of products keeps the planes through the lower end of x, and what does not.

    Args:
        rows: of products ``xy``.
        place: which share of positive and of negative ones takes the planes through the upper end,
            ``(2, *broadcasts)``; None: none.
    """
    if place is None:
        return rows, None
    moved = rows * torch.where(rows > 0, place[0], place[1])
    return rows - moved, moved


MOST_PRODUCTS = 64
"""Batches up to this size are worth a product each."""

Which = Tensor | int | None
"""Which element of a batch coefficients are for: each its own ``(B,)``, all the same, or in order.
"""

FEW_VECTORS = 16
"""Products with all vectors, most of them for nothing, are cheaper than taking each row's own."""

rows: Registry[Row] = Registry("operators", "phalanx.bounds.ops", noun="bounded operator")


def total(rows: Tensor, values: Tensor, at: Which = None) -> Tensor:
    """``sum rows values`` for every row and element of the batch: ``(S, B)``.

    ``values`` is ``(B, *shape)``, ``(S, B, *shape)``, or broadcasts against them.
    """
    if values.ndim == rows.ndim:
        return (rows * values).flatten(2).sum(2)
    if values.ndim < rows.ndim - 1 or len(values) == 1:  # one for all
        values = values if values.ndim < rows.ndim - 1 else values[0]
        return rows.flatten(2) @ values.expand(rows.shape[2:]).flatten()
    return inner(rows.flatten(2), values.expand(-1, *rows.shape[2:]).flatten(1), at)


def inner(rows: Tensor, values: Tensor, at: Which = None) -> Tensor:
    """``(S, B)`` inner products of ``(S, B, n)`` with ``(B, n)``, or with those named by ``at``."""
    if len(values) == 1:
        return rows @ values[0]
    if isinstance(at, int):
        return rows @ values[at]
    if at is None:
        if rows.shape[1] > MOST_PRODUCTS:
            return (rows * values).sum(2)
        # One product of a matrix and a vector for each element reads every number once.
        parts = zip(rows.unbind(1), values.unbind(0), strict=True)
        return torch.stack([part @ value for part, value in parts], 1)
    if len(values) > FEW_VECTORS:
        return (rows * values.index_select(0, at)).sum(2)
    every = rows @ values.T
    return every.gather(2, at.expand(len(rows), -1).unsqueeze(2)).squeeze(2)


def taken(values: Tensor, at: Which) -> Tensor:
    """Some elements of a batch ``(B, *shape)``; what is the same for all stays as it is."""
    if at is None or len(values) == 1:
        return values
    return values[at : at + 1] if isinstance(at, int) else values.index_select(0, at)


def merged(rows: Tensor) -> Tensor:
    """``(S, B, *shape)`` as a batch ``(S B, *shape)``."""
    return rows.flatten(0, 1)


def monotone(function: Callable[[Tensor], Tensor], box: Box) -> Box:
    """Bounds of a function that never falls."""
    return Box(function(box.lower), function(box.upper))
