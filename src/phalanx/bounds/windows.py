"""Coefficients of one entry of an image: a window, that is all it depends on.

Backward from an entry of a convolution, only a window of the layer before has coefficients that are
not zero; it grows with every layer. Windows of entries at different places of the image have the
same size, so many rows are carried at once; what a layer says of its values (lines, boxes) is laid
out window by window, once, and each row takes the one at its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import conv_transpose2d, pad

from phalanx.bounds.ops.conv import by_phases, strided
from phalanx.graph.ir import Node

WORTH_IT = 0.6
"""Share of the image, at most, that a window covers; larger ones are spread over all of it."""


@dataclass(frozen=True)
class Place:
    """Where windows lie: at ``stride * p + start`` for the entry at p of the image begun at.

    Attributes:
        grid: height and width of the image begun at.
        stride, start, size: along both axes.
    """

    grid: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    start: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (1, 1)


@dataclass(frozen=True, eq=False)
class Window:
    """Rows of coefficients of an image.

    Attributes:
        values: ``(S, C, h, w)``.
        at: which place of the grid each row began at ``(S,)``.
        place: where the windows lie.
        shape: of the image, ``(C, H, W)``.
        clean: nothing but zeros lies outside of the image.
    """

    values: Tensor
    at: Tensor
    place: Place
    shape: tuple[int, ...]
    clean: bool = True

    def rows(self, left: Tensor) -> Window:
        """Some of the rows."""
        return replace(
            self, values=self.values.index_select(0, left), at=self.at.index_select(0, left)
        )


def begun(shape: tuple[int, ...], entry: Tensor, sign: Tensor) -> Window:
    """Rows ``sign`` times an entry of an image, ``(S,)`` each."""
    channels, height, width = shape
    channel = entry.div(height * width, rounding_mode="floor")
    values = sign.new_zeros(len(entry), channels).scatter(1, channel[:, None], sign[:, None])
    at = entry.remainder(height * width)
    return Window(values[:, :, None, None], at, Place((height, width)), shape)


def fits(node: Node) -> bool:
    """Whether it is a convolution that windows can be carried through."""
    a = node.attributes
    return (
        node.op == "conv"
        and len(a["stride"]) == 2
        and a["groups"] == 1
        and set(a["dilation"]) == {1}
    )


def before_conv(window: Window, node: Node) -> Window:
    """The rows of a convolution's input; ``window`` is clean."""
    a, place = node.attributes, window.place
    weight = node.tensors["weight"]
    if strided(node):
        values = by_phases(window.values, weight, a["stride"][0])
        height, width = (
            (n - 1) * t + k
            for n, t, k in zip(place.size, a["stride"], weight.shape[2:], strict=True)
        )
        values = values[:, :, :height, :width]
    else:
        values = conv_transpose2d(window.values, weight, None, a["stride"])
    moved = Place(
        place.grid,
        _pair(s * t for s, t in zip(place.stride, a["stride"], strict=True)),
        _pair(o * t - p for o, t, p in zip(place.start, a["stride"], a["padding"], strict=True)),
        (values.shape[2], values.shape[3]),
    )
    return Window(values, window.at, moved, a["input"], clean=False)


def laid_out(image: Tensor, place: Place) -> Tensor:
    """Every window of an image ``(C, H, W)``, zero outside of it: ``(places, C h w)``.

    >>> laid_out(torch.arange(4.0).reshape(1, 2, 2), Place((2, 2), start=(0, -1), size=(1, 2)))
    tensor([[0., 0.],
            [0., 1.],
            [0., 2.],
            [2., 3.]])
    """
    around = []
    for axis in (1, 0):
        start, along = place.start[axis], image.shape[1 + axis]
        last = place.stride[axis] * (place.grid[axis] - 1) + start + place.size[axis]
        around += [max(-start, 0), max(last - along, 0)]
    image = pad(image, around)
    for axis in (0, 1):
        first = max(place.start[axis], 0)
        image = image.narrow(1 + axis, first, image.shape[1 + axis] - first)
        image = image.unfold(1 + axis, place.size[axis], place.stride[axis])
        image = image.narrow(1 + axis, 0, place.grid[axis])
    # (C, rows, columns, h, w)
    return image.permute(1, 2, 0, 3, 4).reshape(place.grid[0] * place.grid[1], -1)


def joined(first: Window, second: Window) -> Window:
    """The sum of rows that began alike, in windows that hold both."""
    starts = list(zip(first.place.start, second.place.start, strict=True))
    ends = [
        tuple(p.start[axis] + p.size[axis] for p in (first.place, second.place)) for axis in (0, 1)
    ]
    values = []
    for number, window in enumerate((first, second)):
        sides = []
        for axis in (1, 0):
            sides += [
                starts[axis][number] - min(starts[axis]), max(ends[axis]) - ends[axis][number]
            ]  # fmt: skip
        values.append(pad(window.values, sides))
    summed = values[0] + values[1]
    start = _pair(min(both) for both in starts)
    place = replace(first.place, start=start, size=(summed.shape[2], summed.shape[3]))
    return Window(summed, first.at, place, first.shape, first.clean and second.clean)


def wide(window: Window) -> bool:
    """Whether it covers so much of the image that all of it may as well be carried."""
    height, width = window.place.size
    return height * width > WORTH_IT * window.shape[1] * window.shape[2]


def spread(window: Window, table: Callable[[], Tensor]) -> Tensor:
    """Coefficients ``(S, 1, C, H, W)`` of the whole image.

    Args:
        window: the rows.
        table: gives the numbers of the image's entries, plus one, laid out.
    """
    count = torch.Size(window.shape).numel()
    where = table().index_select(0, window.at).long()
    whole = window.values.new_zeros(len(window.values), count + 1)
    # What lies outside of the image falls into the first column.
    whole = whole.scatter(1, where, window.values.flatten(1))
    return whole[:, 1:].reshape(-1, 1, *window.shape)


def _pair(numbers: Iterable[int]) -> tuple[int, int]:
    first, second = numbers
    return first, second
