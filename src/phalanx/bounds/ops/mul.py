"""The product of two variables: McCormick's planes (1976)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Joint, rows, total, turned
from phalanx.bounds.ops.expand import summed_to
from phalanx.graph.ir import Node


class Mul(Joint):
    """``xy >= a_x x + a_y y - c`` from ``(x - l_x)(y - l_y) >= 0`` and its three sisters.

    At the centre the two planes of a side are equal: ``(x - l_x)(y - l_y)`` and
    ``(x - u_x)(y - u_y)`` are both ``r_x r_y`` there. The usual one goes through the lower end of
    x; the parameters are the other one's shares below and above.
    """

    parameters = 2
    followed = bilinear = True

    def interval(self, node: Node, *boxes: Box) -> Box:
        """The extremes of four products."""
        x, y = boxes
        products = torch.stack([_product(a, b) for a in x for b in y])
        return Box(products.amin(0), products.amax(0))

    def loose(self, node: Node, boxes: Sequence[Box]) -> list[Tensor]:
        """Wherever both are no points."""
        return [box.lower < box.upper for box in boxes]

    def backward(
        self, node: Node, boxes: Sequence[Box], rows: Tensor, place: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Positive coefficients take planes below, negative ones planes above."""
        shape = (len(rows[0]), *node.shape)
        lx, ux, ly, uy = (_spread(side, shape) for box in boxes for side in box)
        kept, moved = turned(rows, place)
        positive, negative = kept.clamp_min(0), kept.clamp_max(0)
        of_x = positive * ly + negative * uy
        of_y = kept * lx
        constant = -(total(positive, lx * ly) + total(negative, lx * uy))
        if moved is not None:
            positive, negative = moved.clamp_min(0), moved.clamp_max(0)
            of_x = of_x + positive * uy + negative * ly
            of_y = of_y + moved * ux
            constant = constant - total(positive, ux * uy) - total(negative, ux * ly)
        shapes = node.attributes["inputs"]
        return [summed_to(of_x, shapes[0]), summed_to(of_y, shapes[1])], constant


def _product(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).nan_to_num(0.0, torch.inf, -torch.inf)  # zero times an infinite bound is zero


def _spread(side: Tensor, shape: tuple[int, ...]) -> Tensor:
    extra = len(shape) - side.ndim
    if extra:
        side = side.reshape(len(side), *[1] * extra, *side.shape[1:])
    return side.expand(shape)


rows.register("mul")(Mul())
