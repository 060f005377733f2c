"""Affine operators of the graph in numpy: what they do to values, to bounds, and to rows.

Written from the definitions in `phalanx.graph.operators`. Values are ``(N, *shape)``, rows of
coefficients likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch

from phalanx.graph.ir import Node
from phalanx.verify.proof.convolutions import Geometry, correlated, spread
from phalanx.verify.proof.rounding import Array

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Affine:
    """``linear(values) + offset``.

    Attributes:
        linear: of a value for each input.
        size: the same with absolute coefficients.
        back: rows of the output as rows of each input.
        offset: ``(1, *shape)``.
        terms: how many products a number sums at most, forward and back.
    """

    linear: Callable[[Sequence[Array]], Array]
    size: Callable[[Sequence[Array]], Array]
    back: Callable[[Array], list[Array]]
    offset: Array
    terms: tuple[int, int]


Make = Callable[[Node, tuple[Shape, ...]], Affine]


def _one(
    node: Node,
    forward: Callable[[Array], Array],
    back: Callable[[Array], Array],
    terms: tuple[int, int] = (1, 1),
    *,
    size: Callable[[Array], Array] | None = None,
    offset: Array | None = None,
) -> Affine:
    """An operator of one input."""
    nothing = np.zeros((1, *node.shape)) if offset is None else offset
    absolute = size or forward
    return Affine(
        lambda x: forward(x[0]), lambda x: absolute(x[0]), lambda r: [back(r)], nothing, terms
    )


def _tensor(node: Node, key: str) -> Array | None:
    found = node.tensors.get(key)
    if found is None:
        return None
    return np.asarray(found.detach().cpu().double().numpy(), dtype=np.float64)


def _shift(node: Node, axes: int) -> Array:
    """A bias along the first of some axes, or along the last where there is one axis."""
    bias = _tensor(node, "bias")
    if bias is None:
        return np.zeros((1, *node.shape))
    return np.broadcast_to(bias.reshape(-1, *[1] * axes), node.shape)[None]


def _linear(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    weight = _weight(node)
    out, into = weight.shape
    steep = np.abs(weight)
    return _one(
        node,
        lambda x: x @ weight.T,
        lambda r: r @ weight,
        (into, out),
        size=lambda x: x @ steep.T,
        offset=_shift(node, 0),
    )


def _conv(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    weight, geometry = _weight(node), Geometry.of(node, shapes[0][1:], node.shape[1:])
    steep, kernel = np.abs(weight), prod(weight.shape[2:])
    terms = prod(weight.shape[1:]), weight.shape[0] // geometry.groups * kernel
    return _one(
        node,
        lambda x: correlated(x, weight, geometry),
        lambda r: spread(r, weight, geometry),
        terms,
        size=lambda x: correlated(x, steep, geometry),
        offset=_shift(node, len(node.shape) - 1),
    )


def _conv_transpose(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    """Back is forward, of a convolution from the output to the input."""
    weight, geometry = _weight(node), Geometry.of(node, node.shape[1:], shapes[0][1:])
    steep, kernel = np.abs(weight), prod(weight.shape[2:])
    terms = weight.shape[0] // geometry.groups * kernel, prod(weight.shape[1:])
    return _one(
        node,
        lambda x: spread(x, weight, geometry),
        lambda r: correlated(r, weight, geometry),
        terms,
        size=lambda x: spread(x, steep, geometry),
        offset=_shift(node, len(node.shape) - 1),
    )


def _weight(node: Node) -> Array:
    return _numbers(node, "weight")


def _numbers(node: Node, key: str) -> Array:
    found = _tensor(node, key)
    if found is None:
        raise ValueError(f"{node.name} has no {key}")
    return found


def _scale(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    weight, bias = _tensor(node, "weight"), _tensor(node, "bias")
    offset = np.broadcast_to(0.0 if bias is None else bias, node.shape)[None]
    shape = shapes[0]
    if weight is None:  # a shift alone: nothing is multiplied
        return _one(
            node,
            lambda x: widened(x, node.shape),
            lambda r: summed(r, shape),
            (1, _copies(node, shape)),
            offset=offset,
        )
    factor = np.broadcast_to(weight, node.shape)
    steep = np.abs(factor)
    return _one(
        node,
        lambda x: widened(x, node.shape) * factor,
        lambda r: summed(r * factor, shape),
        (1, _copies(node, shape)),
        size=lambda x: widened(x, node.shape) * steep,
        offset=offset,
    )


def _quotient(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    divisor, shape = np.broadcast_to(_numbers(node, "divisor"), node.shape), shapes[0]
    steep = np.abs(divisor)
    return _one(
        node,
        lambda x: widened(x, node.shape) / divisor,
        lambda r: summed(r / divisor, shape),
        (1, _copies(node, shape)),
        size=lambda x: widened(x, node.shape) / steep,
    )


def _batch_norm(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    """Of what its mean has been taken off, see `parts`; a root, a quotient and two more."""
    deviation = np.sqrt(_numbers(node, "variance") + node.attributes["epsilon"])
    sides = (-1, *[1] * (len(node.shape) - 1))
    factor = np.broadcast_to((_numbers(node, "weight") / deviation).reshape(sides), node.shape)
    steep = np.abs(factor)
    return _one(
        node,
        lambda x: x * factor,
        lambda r: r * factor,
        (5, 5),
        size=lambda x: x * steep,
        offset=_shift(node, len(node.shape) - 1),
    )


def parts(node: Node) -> tuple[Node, ...]:
    """The operators that it is made of: batch normalisation takes its mean off first."""
    if node.op != "batch-norm":
        return (node,)
    sides = (-1, *[1] * (len(node.shape) - 1))
    tensors = {"bias": -node.tensors["mean"].reshape(sides)}
    centred = Node(f"{node.name}-centred", "scale", node.inputs, node.shape, {}, tensors)
    rest = {**node.tensors, "mean": torch.zeros_like(node.tensors["mean"])}
    return centred, replace(node, inputs=(centred.name,), tensors=rest)


def _add(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    sign = -1.0 if node.op == "sub" else 1.0
    a, b = shapes

    def total(values: Sequence[Array], second: float) -> Array:
        return widened(values[0], node.shape) + second * widened(values[1], node.shape)

    return Affine(
        lambda x: total(x, sign),
        lambda x: total(x, 1.0),
        lambda r: [summed(r, a), sign * summed(r, b)],
        np.zeros((1, *node.shape)),
        (2, max(_copies(node, a), _copies(node, b))),
    )


def _reshape(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    return _one(
        node,
        lambda x: x.reshape(len(x), *node.shape),
        lambda r: r.reshape(len(r), *shapes[0]),
    )


def _transpose(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    order = [0, *(axis + 1 for axis in node.attributes["permutation"])]
    back = list(np.argsort(order))
    return _one(node, lambda x: x.transpose(order), lambda r: r.transpose(back))


def _expand(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    terms = (1, _copies(node, shapes[0]))
    return _one(node, lambda x: widened(x, node.shape), lambda r: summed(r, shapes[0]), terms)


def _take(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    axis, index = node.attributes["axis"] + 1, node.tensors["indices"].numpy()
    index = np.where(index < 0, index + shapes[0][axis - 1], index)

    def back(rows: Array) -> Array:
        found = np.zeros((len(rows), *shapes[0]))
        np.add.at(np.moveaxis(found, axis, 0), index, np.moveaxis(rows, axis, 0))
        return found

    most = int(np.bincount(index).max()) if len(index) else 1
    return _one(node, lambda x: x.take(index, axis), back, (1, most))


def _concat(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    axis = node.attributes["axis"] + 1
    ends = np.cumsum([shape[axis - 1] for shape in shapes])[:-1]

    def joined(values: Sequence[Array]) -> Array:
        rows = max(map(len, values))
        return np.concatenate([np.broadcast_to(v, (rows, *v.shape[1:])) for v in values], axis)

    nothing = np.zeros((1, *node.shape))
    return Affine(joined, joined, lambda r: list(np.split(r, ends, axis)), nothing, (1, 1))


def _pad(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    before, after = node.attributes["before"], node.attributes["after"]

    def moved(x: Array, first: Sequence[int], last: Sequence[int], value: float) -> Array:
        for axis, (a, b) in enumerate(zip(first, last, strict=True), 1):
            size = x.shape[axis]
            x = x.take(range(max(0, -a), size - max(0, -b)), axis)
            sides = [(0, 0)] * x.ndim
            sides[axis] = (max(0, a), max(0, b))
            x = np.pad(x, sides, constant_values=value)
        return x

    offset = moved(np.zeros((1, *shapes[0])), before, after, float(node.attributes["value"]))
    away = [-n for n in before], [-n for n in after]
    return _one(
        node, lambda x: moved(x, before, after, 0.0), lambda r: moved(r, *away, 0.0), offset=offset
    )


def _reduce_sum(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    axes = tuple(axis + 1 for axis in node.attributes["axes"])
    terms = (prod(shapes[0]) // max(1, prod(node.shape)), 1)
    return _one(
        node,
        lambda x: x.sum(axes, keepdims=True) if axes else x,
        lambda r: np.broadcast_to(r, (len(r), *shapes[0])),
        terms,
    )


def _avg_pool(node: Node, shapes: tuple[Shape, ...]) -> Affine:
    """Sums of windows, channel by channel, divided by what each window counts."""
    a, channels = node.attributes, shapes[0][0]
    geometry = Geometry(
        tuple(a["stride"]), tuple(a["padding"]), (1,) * len(a["kernel"]), channels,
        shapes[0][1:], node.shape[1:],
    )  # fmt: skip
    ones, kernel = np.ones((channels, 1, *a["kernel"])), prod(a["kernel"])
    counts = correlated(np.ones((1, *shapes[0])), ones, geometry)
    if a["count_padding"] or not any(a["padding"]):
        counts = np.full_like(counts, float(kernel))
    return _one(
        node,
        lambda x: correlated(x, ones, geometry) / counts,
        lambda r: spread(r / counts, ones, geometry),
        (kernel + 1, kernel + 1),
    )


def _copies(node: Node, shape: Shape) -> int:
    return prod(node.shape) // max(1, prod(shape)) + 1


def widened(x: Array, shape: Shape) -> Array:
    """Values ``(N, *smaller)`` broadcast to ``(N, *shape)``.

    >>> widened(np.ones((2, 3)), (4, 3)).shape
    (2, 4, 3)
    """
    more = len(shape) - x.ndim + 1
    return np.broadcast_to(x.reshape(len(x), *[1] * more, *x.shape[1:]), (len(x), *shape))


def summed(rows: Array, shape: Shape) -> Array:
    """The reverse of `widened` for rows: sums over what was broadcast.

    >>> summed(np.ones((2, 4, 3)), (1, 3)).tolist()
    [[[4.0, 4.0, 4.0]], [[4.0, 4.0, 4.0]]]
    """
    more = rows.ndim - 1 - len(shape)
    rows = rows.sum(tuple(range(1, 1 + more))) if more else rows
    axes = tuple(i for i, n in enumerate(shape, 1) if n == 1 and rows.shape[i] != 1)
    return rows.sum(axes, keepdims=True) if axes else rows


OPERATORS: dict[str, Make] = {
    "linear": _linear,
    "conv": _conv,
    "conv-transpose": _conv_transpose,
    "scale": _scale,
    "quotient": _quotient,
    "batch-norm": _batch_norm,
    "add": _add,
    "sub": _add,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand": _expand,
    "take": _take,
    "concat": _concat,
    "pad": _pad,
    "reduce-sum": _reduce_sum,
    "avg-pool": _avg_pool,
}
"""By name; an operator that is not here is refused."""
