"""Products of two variables, of numbers and of matrices: planes through corners of their boxes.

``(x - l_x)(y - l_y) >= 0`` and its sister ``(x - l_x)(u_y - y) >= 0`` (McCormick 1976) hold for
whatever bounds are true, so nothing but roundings has to be made good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from phalanx.bounds.outward.rounding import UNDERFLOW, dot, down, gamma, up
from phalanx.bounds.outward.sums import Sides, Sums
from phalanx.graph.ir import Node

Place = tuple[Tensor, Tensor]
"""Shares in [0, 1] of positive and of negative coefficients; not trusted."""


class Mul:
    """``xy``, element by element; both are broadcast."""

    def interval(self, node: Node, sides: Sequence[Sides]) -> tuple[Tensor, Tensor]:
        """The extremes of four products, each rounded once."""
        x, y = sides
        products = torch.stack(
            [_product(a, b) for a in (x.lower, x.upper) for b in (y.lower, y.upper)]
        )
        return down(products.amin(0) - UNDERFLOW), up(products.amax(0) + UNDERFLOW)

    def loose(self, node: Node, side: Sides) -> Tensor:
        """Wherever it is no point."""
        return side.lower < side.upper

    def back(
        self,
        node: Node,
        rows: Tensor,
        sides: Sequence[Sides],
        sums: Sums,
        place: Place | None = None,
    ) -> list[Tensor]:
        """Positive coefficients take planes below, negative ones planes above."""
        x, y = sides
        of_x = of_y = torch.zeros_like(rows)
        for part, low, ends in _turned(rows, x, y, place):
            of_y = of_y + part * low
            for side, end in zip((part.clamp_min(0), part.clamp_max(0)), ends, strict=True):
                of_x = of_x + side * end
                value, error = dot(side, (low * end).expand(1, *node.shape))
                sums.add(-value, error)
        # Each coefficient is rounded as a product and in the sum over what was broadcast, the
        # constant's product too; shares of rows are rounded and do not quite add up.
        repeats = sum(_repeats(node, index) for index in range(2))
        size = _product(x.most, y.most).expand(1, *node.shape)
        sums.lose(gamma(repeats + 16), rows, size)
        return [_summed(part, node, index) for index, part in enumerate((of_x, of_y))]


class MatMul:
    """``sum_k x_ik y_kj``: sums of such products."""

    def interval(self, node: Node, sides: Sequence[Sides]) -> tuple[Tensor, Tensor]:
        """``|xy - c_x c_y| <= |c_x| r_y + r_x (|c_y| + r_y)``, and the roundings of all sums."""
        (cx, rx), (cy, ry) = (side.middle() for side in sides)
        middle = cx @ cy
        radius = cx.abs() @ ry + rx @ (cy.abs() + ry)
        size = (cx.abs() + rx) @ (cy.abs() + ry)
        reach = up(radius + (3 * gamma(2 * cx.shape[-1] + 8) * size + UNDERFLOW))
        return down(middle - reach), up(middle + reach)

    def loose(self, node: Node, side: Sides) -> Tensor:
        """Wherever it is no point."""
        return side.lower < side.upper

    def back(
        self,
        node: Node,
        rows: Tensor,
        sides: Sequence[Sides],
        sums: Sums,
        place: Place | None = None,
    ) -> list[Tensor]:
        """The planes of single products, summed over the rows of coefficients."""
        x, y = sides
        of_x, of_y = rows.new_zeros(()), rows.new_zeros(())
        for part, low, ends in _turned(rows, x, y, place):
            of_y = of_y + low.mT @ part
            for side, end in zip((part.clamp_min(0), part.clamp_max(0)), ends, strict=True):
                of_x = of_x + side @ end.mT
                value, error = dot(side, (low @ end).expand(1, *node.shape))
                sums.add(-value, error)
        # A coefficient of x sums over j four times, one of y over i twice, the constant over k;
        # weighed with the largest values each loses its share of ``|rows| . (max|x| max|y|)``.
        (i, k), j = x.lower.shape[-2:], y.lower.shape[-1]
        repeats = sum(_repeats(node, index) for index in range(2))
        size = (x.most @ y.most).expand(1, *node.shape)
        sums.lose(gamma(4 * j + 2 * i + k + repeats + 32), rows, size)
        return [_summed(part, node, index) for index, part in enumerate((of_x, of_y))]


def _turned(
    rows: Tensor, x: Sides, y: Sides, place: Place | None
) -> Iterator[tuple[Tensor, Tensor, tuple[Tensor, Tensor]]]:
    """Shares of rows, the end of x that their planes go through, and those of y.

    The ends of y are that of positive and that of negative coefficients. A plane through the other
    end of x takes the share that ``place`` says, of the one kind and the other.
    """
    if place is None:
        yield rows, x.lower, (y.lower, y.upper)
        return
    below, above = (share.clamp(0, 1) for share in place)
    moved = rows * torch.where(rows > 0, below, above)
    yield rows - moved, x.lower, (y.lower, y.upper)
    yield moved, x.upper, (y.upper, y.lower)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Zero times an infinite bound is zero: where one factor is zero, so is what it bounds."""
    return (a * b).nan_to_num(0.0, torch.inf, -torch.inf)


def _repeats(node: Node, index: int) -> int:
    """How many coefficients of the output one of an input sums at most."""
    return prod(node.shape) // max(1, min(prod(node.shape), prod(node.attributes["inputs"][index])))


def _summed(rows: Tensor, node: Node, index: int) -> Tensor:
    """Rows ``(S, *larger)`` of a broadcast input as rows of the input itself."""
    shape = node.attributes["inputs"][index]
    while rows.ndim > len(shape) + 1:
        rows = rows.sum(1)
    axes = [axis for axis, n in enumerate(shape, 1) if n == 1 and rows.shape[axis] > 1]
    return rows.sum(axes, keepdim=True) if axes else rows
