"""The product of two matrices that both depend on the input: McCormick's planes, summed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from phalanx.bounds.ops import Box, Joint, rows, total, turned
from phalanx.bounds.ops.expand import summed_to
from phalanx.graph.ir import Node


class MatMul(Joint):
    """``sum_k x_ik y_kj``, each product by the planes of `mul` through the lower end of x.

    Summed over the rows of coefficients these are matrix products themselves. The parameters are
    those of `mul`, the same for all products of a sum.
    """

    parameters = 2
    followed = bilinear = True

    def interval(self, node: Node, *boxes: Box) -> Box:
        """Centre and radius: ``|xy - c_x c_y| <= |c_x| r_y + r_x |c_y| + r_x r_y``."""
        x, y = boxes
        middle = x.centre @ y.centre
        radius = x.centre.abs() @ y.radius + x.radius @ (y.centre.abs() + y.radius)
        return Box(middle - radius, middle + radius)

    def loose(self, node: Node, boxes: Sequence[Box]) -> list[Tensor]:
        """Wherever they are no points."""
        return [box.lower < box.upper for box in boxes]

    def backward(
        self, node: Node, boxes: Sequence[Box], rows: Tensor, place: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Positive coefficients take planes below, negative ones planes above."""
        x, y = boxes
        kept, moved = turned(rows, place)
        positive, negative = kept.clamp_min(0), kept.clamp_max(0)
        of_x = positive @ y.lower.mT + negative @ y.upper.mT
        of_y = x.lower.mT @ kept
        constant = total(positive, x.lower @ y.lower) + total(negative, x.lower @ y.upper)
        if moved is not None:
            positive, negative = moved.clamp_min(0), moved.clamp_max(0)
            of_x = of_x + positive @ y.upper.mT + negative @ y.lower.mT
            of_y = of_y + x.upper.mT @ moved
            corners = total(positive, x.upper @ y.upper) + total(negative, x.upper @ y.lower)
            constant = constant + corners
        shapes = node.attributes["inputs"]
        return [summed_to(of_x, shapes[0]), summed_to(of_y, shapes[1])], -constant


rows.register("matmul")(MatMul())
