"""Cross-correlation and its adjoint in numpy, one product for each place of the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType

import numpy as np

from phalanx.graph.ir import Node
from phalanx.verify.proof.rounding import Array

Where = tuple[EllipsisType | slice, ...]


@dataclass(frozen=True)
class Geometry:
    """Of a convolution from an image of size ``into`` to one of size ``out``, channels aside."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    into: tuple[int, ...]
    out: tuple[int, ...]

    @classmethod
    def of(cls, node: Node, into: tuple[int, ...], out: tuple[int, ...]) -> Geometry:
        """From a node's attributes."""
        a = node.attributes
        sizes = (tuple(int(n) for n in a[key]) for key in ("stride", "padding", "dilation"))
        stride, padding, dilation = sizes
        return cls(stride, padding, dilation, int(a["groups"]), into, out)

    def room(self, kernel: tuple[int, ...]) -> tuple[int, ...]:
        """How large the padded image must be so that every place of the kernel is inside it."""
        return tuple(
            max(n + 2 * p, (k - 1) * d + (m - 1) * s + 1)
            for n, p, k, d, m, s in zip(
                self.into, self.padding, kernel, self.dilation, self.out, self.stride, strict=True
            )
        )

    def met(self, place: tuple[int, ...]) -> Where:
        """What a place of the kernel reads of the padded image."""
        parts = zip(place, self.dilation, self.out, self.stride, strict=True)
        return (..., *(slice(k * d, k * d + (m - 1) * s + 1, s) for k, d, m, s in parts))

    def inner(self) -> Where:
        """The image itself in the padded one."""
        return (..., *(slice(p, p + n) for p, n in zip(self.padding, self.into, strict=True)))


def correlated(x: Array, weight: Array, geometry: Geometry) -> Array:
    """Images ``(N, C, *into)`` to ``(N, K, *out)``; weight ``(K, C / groups, *kernel)``.

    >>> g = Geometry((1,), (0,), (1,), 1, (3,), (2,))
    >>> correlated(np.array([[[1.0, 2.0, 4.0]]]), np.array([[[1.0, -1.0]]]), g).tolist()
    [[[-1.0, -2.0]]]
    """
    count, groups, kernel = len(x), geometry.groups, weight.shape[2:]
    padded = np.zeros((count, x.shape[1], *geometry.room(kernel)))
    padded[geometry.inner()] = x
    total = np.zeros((count, groups, weight.shape[0] // groups, _numbers(geometry.out)))
    by_group = weight.reshape(groups, -1, *weight.shape[1:])
    for place in np.ndindex(*kernel):
        seen = padded[geometry.met(place)].reshape(count, groups, weight.shape[1], -1)
        total += _at(by_group, place) @ seen
    return total.reshape(count, weight.shape[0], *geometry.out)


def spread(rows: Array, weight: Array, geometry: Geometry) -> Array:
    """The adjoint: ``(N, K, *out)`` to ``(N, C, *into)``.

    >>> g = Geometry((1,), (0,), (1,), 1, (3,), (2,))
    >>> spread(np.array([[[1.0, 2.0]]]), np.array([[[1.0, -1.0]]]), g).tolist()
    [[[1.0, 1.0, -2.0]]]
    """
    count, groups, kernel = len(rows), geometry.groups, weight.shape[2:]
    channels = weight.shape[1] * groups
    padded = np.zeros((count, channels, *geometry.room(kernel)))
    by_group = weight.reshape(groups, -1, *weight.shape[1:])
    flat = rows.reshape(count, groups, weight.shape[0] // groups, -1)
    for place in np.ndindex(*kernel):
        part = _at(by_group, place).transpose(0, 2, 1) @ flat
        padded[geometry.met(place)] += part.reshape(count, channels, *geometry.out)
    return np.ascontiguousarray(padded[geometry.inner()])


def _at(weight: Array, place: tuple[int, ...]) -> Array:
    """``(groups, K / groups, C / groups)`` of a place of the kernel."""
    where: tuple[EllipsisType | int, ...] = (..., *place)
    return np.asarray(weight[where], dtype=np.float64)


def _numbers(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
