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
from phalanx.bounds.outward.sums import Place, Sides, Sums
from phalanx.graph.ir import Node


class _Product:
    """A product that is linear in each of two variables."""

    extra: int
    """Roundings besides those of sums: of products, constants and shares of rows."""

    def times(self, x: Tensor, y: Tensor) -> Tensor:
        """The product itself."""
        raise NotImplementedError

    def of_x(self, rows: Tensor, y: Tensor) -> Tensor:
        """Rows of x, of rows of the product with this y."""
        raise NotImplementedError

    def of_y(self, rows: Tensor, x: Tensor) -> Tensor:
        """Rows of y, of rows of the product with this x."""
        raise NotImplementedError

    def largest(self, x: Tensor, y: Tensor) -> Tensor:
        """The product of largest values; no number where nothing is known of it."""
        return self.times(x, y)

    def terms(self, x: Tensor, y: Tensor) -> int:
        """How many numbers the sums of a coefficient and of the constant have at most."""
        raise NotImplementedError

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
        of_x, of_y = rows.new_zeros(()), rows.new_zeros(())
        for part, low, ends in _turned(rows, x, y, place):
            of_y = of_y + self.of_y(part, low)
            for side, end in zip((part.clamp_min(0), part.clamp_max(0)), ends, strict=True):
                of_x = of_x + self.of_x(side, end)
                value, error = dot(side, self.times(low, end).expand(1, *node.shape))
                sums.add(-value, error)
        # Weighed with the largest values each loses its share of ``|rows| . (max|x| max|y|)``; the
        # shares of rows are rounded, and do not quite add up.
        repeats = sum(_repeats(node, index) for index in range(2))
        size = self.largest(x.most, y.most)
        lost = gamma(self.terms(x.lower, y.lower) + repeats + self.extra)
        sums.lose(lost, rows, size.expand(1, *node.shape))
        return [_summed(part, node, index) for index, part in enumerate((of_x, of_y))]


class Mul(_Product):
    """``xy``, element by element; both are broadcast."""

    extra = 16

    def interval(self, node: Node, sides: Sequence[Sides]) -> tuple[Tensor, Tensor]:
        """The extremes of four products, each rounded once."""
        x, y = sides
        products = torch.stack(
            [_product(a, b) for a in (x.lower, x.upper) for b in (y.lower, y.upper)]
        )
        return down(products.amin(0) - UNDERFLOW), up(products.amax(0) + UNDERFLOW)

    def times(self, x: Tensor, y: Tensor) -> Tensor:
        """Number by number."""
        return x * y

    def of_x(self, rows: Tensor, y: Tensor) -> Tensor:
        """Number by number."""
        return rows * y

    def of_y(self, rows: Tensor, x: Tensor) -> Tensor:
        """Number by number."""
        return rows * x

    def largest(self, x: Tensor, y: Tensor) -> Tensor:
        """Zero times anything is zero."""
        return _product(x, y)

    def terms(self, x: Tensor, y: Tensor) -> int:
        """None: what was broadcast is counted with the repeats."""
        return 0


class MatMul(_Product):
    """``sum_k x_ik y_kj``: sums of such products."""

    extra = 32

    def interval(self, node: Node, sides: Sequence[Sides]) -> tuple[Tensor, Tensor]:
        """``|xy - c_x c_y| <= |c_x| r_y + r_x (|c_y| + r_y)``, and the roundings of all sums."""
        (cx, rx), (cy, ry) = (side.middle() for side in sides)
        middle = cx @ cy
        radius = cx.abs() @ ry + rx @ (cy.abs() + ry)
        size = (cx.abs() + rx) @ (cy.abs() + ry)
        reach = up(radius + (3 * gamma(2 * cx.shape[-1] + 8) * size + UNDERFLOW))
        return down(middle - reach), up(middle + reach)

    def times(self, x: Tensor, y: Tensor) -> Tensor:
        """Of matrices."""
        return x @ y

    def of_x(self, rows: Tensor, y: Tensor) -> Tensor:
        """``rows y^T``."""
        return rows @ y.mT

    def of_y(self, rows: Tensor, x: Tensor) -> Tensor:
        """``x^T rows``."""
        return x.mT @ rows

    def terms(self, x: Tensor, y: Tensor) -> int:
        """One of x sums over j four times, one of y over i twice, the constant over k."""
        (i, k), j = x.shape[-2:], y.shape[-1]
        return 4 * j + 2 * i + k


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
    below, above = (share.squeeze(1).clamp(0, 1) for share in place)
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
