"""Rows that are zero outside of a rectangle of an image: nothing else is carried.

Backward from entries of a convolution that lie side by side only a rectangle of what it reads has
coefficients that are not zero; it grows from layer to layer. What is left out are zeros, which add
nothing and round nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv_transpose2d, pad

from phalanx.graph.ir import Node

SIDE, TOGETHER = 2, 16
"""Height and width of the smallest tiles; larger ones are taken until so many entries share one."""
ALIKE = ("add", "sub", "scale")
"""Operators that give an entry what they read at its place, where shapes are alike."""


class Crop(NamedTuple):
    """Rows ``top <= y < bottom`` and columns ``left <= x < right`` of an image."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, part: Tensor) -> Tensor:
        """The rectangle of a tensor whose last two axes are the image's."""
        return part[..., self.top : self.bottom, self.left : self.right]

    def whole(self, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Rows of the rectangle with the zeros around it, ``(S, *shape)``."""
        height, width = shape[1:]
        return pad(rows, (self.left, width - self.right, self.top, height - self.bottom))

    def within(self, rows: Tensor, inner: Crop) -> Tensor:
        """Rows of a rectangle in this one, with zeros around."""
        left, right = inner.left - self.left, self.right - inner.right
        return pad(rows, (left, right, inner.top - self.top, self.bottom - inner.bottom))


def carries(node: Node) -> bool:
    """Whether rectangles go through an affine operator."""
    shapes = node.attributes.get("inputs", ())
    if len(node.shape) != 3:
        return False
    if node.op == "conv":
        return len(node.attributes["stride"]) == 2
    return node.op in ALIKE and all(shape == node.shape for shape in shapes)


def tiles(shape: tuple[int, ...], entries: Tensor) -> Iterator[tuple[Tensor, Crop]]:
    """Which of the entries ``(S,)`` of an image lie in each of the tiles that it is cut into.

    >>> [(which.tolist(), crop) for which, crop in tiles((12, 1, 3), torch.arange(36))][1]
    ([2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35], Crop(top=0, left=2, bottom=1, right=3))
    """
    height, width = shape[1:]
    side = SIDE
    while side < max(height, width) and len(entries) < TOGETHER * -(-height // side) * -(
        -width // side
    ):
        side *= 2
    place = entries.remainder(height * width)
    across = -(-width // side)
    number = place.div(width * side, rounding_mode="floor") * across
    number = number + place.remainder(width).div(side, rounding_mode="floor")
    order = number.argsort(stable=True)
    found, counts = number[order].unique_consecutive(return_counts=True)
    for tile, which in zip(found.tolist(), order.split(counts.tolist()), strict=True):
        top, left = tile // across * side, tile % across * side
        yield which, Crop(top, left, min(top + side, height), min(left + side, width))


def unit_rows(shape: tuple[int, ...], entries: Tensor, sign: Tensor, crop: Crop) -> Tensor:
    """Rows ``(S, C, h, w)`` that are ``sign`` at entries of a rectangle, and zero elsewhere."""
    _, height, width = shape
    channel, place = entries.div(height * width, rounding_mode="floor"), entries % (height * width)
    y, x = place.div(width, rounding_mode="floor") - crop.top, place % width - crop.left
    rows = sign.new_zeros(len(entries), *crop.of(sign.new_zeros(1).expand(shape)).shape)
    rows[torch.arange(len(entries)), channel, y, x] = sign
    return rows


def adjoint(node: Node, rows: Tensor, crop: Crop) -> Iterator[tuple[Tensor, Crop]]:
    """Coefficients of every input of an operator that `carries` rectangles."""
    if node.op == "conv":
        yield _before_conv(node, rows, crop)
        return
    if node.op == "scale":
        weight = node.tensors.get("weight")
        yield rows if weight is None else rows * crop.of(weight.expand(1, *node.shape)), crop
        return
    for number in range(len(node.inputs)):
        yield -rows if node.op == "sub" and number else rows, crop


def _before_conv(node: Node, rows: Tensor, crop: Crop) -> tuple[Tensor, Crop]:
    a = node.attributes
    weight, shape = node.tensors["weight"], a["inputs"][0]
    if a["groups"] == 1:
        found = _transposed(rows, weight, a["stride"], a["dilation"])
    else:
        found = conv_transpose2d(rows, weight, None, a["stride"], 0, 0, a["groups"], a["dilation"])
    starts = [n * s - p for n, s, p in zip(crop[:2], a["stride"], a["padding"], strict=True)]
    ends = [start + n for start, n in zip(starts, found.shape[2:], strict=True)]
    inside = Crop(
        max(starts[0], 0), max(starts[1], 0), min(ends[0], shape[1]), min(ends[1], shape[2])
    )
    if inside.top >= inside.bottom or inside.left >= inside.right:  # it sees padding alone
        return rows.new_zeros(len(rows), shape[0], 1, 1), Crop(0, 0, 1, 1)
    kept = Crop(*(n - starts[k % 2] for k, n in enumerate(inside)))
    return kept.of(found), inside


def _transposed(
    rows: Tensor, weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int]
) -> Tensor:
    """``conv_transpose2d`` as one product of matrices; torch's own, of doubles, makes one a row."""
    (count, channels, height, width), (_, read, *kernel) = rows.shape, weight.shape
    flat = rows.permute(0, 2, 3, 1).reshape(-1, channels)
    parts = flat @ weight.permute(0, 2, 3, 1).reshape(channels, -1)
    parts = parts.reshape(count, height, width, *kernel, read)
    spans = [(n - 1) * s + 1 for n, s in zip((height, width), stride, strict=True)]
    sizes = [span + (k - 1) * d for span, k, d in zip(spans, kernel, dilation, strict=True)]
    found = rows.new_zeros(count, *sizes, read)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            part = found[:, top : top + spans[0] : stride[0], left : left + spans[1] : stride[1]]
            part += parts[:, :, :, i, j]
    return found.permute(0, 3, 1, 2)


Part = tuple[Tensor, Crop | None]
"""Rows of an image, and the rectangle that they are all there is of."""


def alike(first: Part, second: Part, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Crop | None]:
    """Both rows on the least rectangle that holds both, or whole."""
    (one, a), (other, b) = first, second
    if a is None or b is None:
        one, other = (r if c is None else c.whole(r, shape) for r, c in (first, second))
        return one, other, None
    both = Crop(*map(min, a[:2], b[:2]), *map(max, a[2:], b[2:]))
    return both.within(one, a), both.within(other, b), both
