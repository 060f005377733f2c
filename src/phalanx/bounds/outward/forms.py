"""The affine forms of `phalanx.bounds.forms`, so that no rounding can break them.

What a coefficient or a centre is rounded by goes into the error, which is only ever rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.bounds.outward.affine import image, lengths, linear, magnitude, offset
from phalanx.bounds.outward.curves import gaps
from phalanx.bounds.outward.rounding import UNDERFLOW, UNIT, down, gamma, up
from phalanx.graph.ir import Node


@dataclass(frozen=True, eq=False)
class Form:
    """``|value - centre - sum_i e_i coefficients_i| <= error`` with every e_i in [-1, 1].

    Attributes:
        coefficients: ``(I, *shape)``.
        centre, error: ``(1, *shape)``.
    """

    coefficients: Tensor
    centre: Tensor
    error: Tensor

    @property
    def reach(self) -> Tensor:
        """How far the value may be from the centre, rounded up."""
        count = len(self.coefficients) + 2
        return up((self.coefficients.abs().sum(0) + self.error) * (1 + gamma(count)) + UNDERFLOW)

    def sides(self) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds of the value."""
        reach = self.reach
        return down(self.centre - reach), up(self.centre + reach)


def of_box(centre: Tensor, radius: Tensor, count: int) -> Form:
    """A value of which only the box is known."""
    return Form(centre.new_zeros(count, *centre.shape[1:]), centre, radius)


def of_input(centre: Tensor, radius: Tensor) -> Form:
    """Every number moves by itself."""
    units = torch.diag_embed(radius.flatten()).reshape(-1, *centre.shape[1:])
    return Form(units, centre, torch.zeros_like(centre))


def of_affine(node: Node, sources: Sequence[Form]) -> Form:
    """The image; a sum of k products is off by ``gamma(k)`` of the absolute values at most."""
    centre = image(node, [source.centre for source in sources])
    moved = linear(node, [source.coefficients for source in sources])
    size = magnitude(node, [source.centre.abs() + source.reach for source in sources])
    size = size + offset(node, centre).abs()
    error = magnitude(node, [source.error for source in sources])
    slack = 4 * gamma(lengths(node)[0]) * (size + error) + UNDERFLOW
    return Form(moved, centre, up(error + slack))


def of_curve(node: Node, source: Form, slope: Tensor, box: tuple[Tensor, Tensor]) -> Form:
    """``f(x) - s x`` lies between two offsets on the interval.

    Args:
        node: the curve.
        source: of its argument.
        slope: s, any finite numbers.
        box: the interval.
    """
    low, high = (gaps(node, slope, *box, above=above) for above in (False, True))
    middle, centre = (low + high) / 2, slope * source.centre
    half = up(torch.maximum(high - middle, middle - low))
    moved = slope * source.coefficients
    error = slope.abs() * source.error + half
    size = moved.abs().sum(0) + centre.abs() + middle.abs() + error
    return Form(moved, centre + middle, up(error + 8 * UNIT * size + UNDERFLOW))
