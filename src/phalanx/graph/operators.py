"""What every operator of the graph computes, in torch, on ``(B, *shape)`` values.

`OPERATORS` is the whole vocabulary; an importer translates into it. An operator is a function of
its node and of its inputs' values. Products with constants are ``linear``, ``conv``,
``conv-transpose`` and ``scale`` (``weight * x + bias`` element by element), so that what is
affine is seen to be affine; ``quotient`` and ``batch-norm`` say what a file says, since their
factors are numbers of no type (`phalanx.graph.simplify`). Slices, splits, gathers and
nearest-neighbour upsampling are all ``take``: entries of one axis, by constant indices.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from phalanx.graph.ir import Node
from phalanx.runtime.vectors import in_whole_vectors

Operator = Callable[..., Tensor]


def linear(node: Node, x: Tensor) -> Tensor:
    """``x W^T + b`` along the last axis; weight ``(out, in)``."""
    return F.linear(x, node.tensors["weight"], node.tensors.get("bias"))


def conv(node: Node, x: Tensor) -> Tensor:
    """Cross-correlation over one, two or three axes behind the channels; zero padding."""
    a = node.attributes
    function = (F.conv1d, F.conv2d, F.conv3d)[len(a["stride"]) - 1]
    weight, bias = node.tensors["weight"], node.tensors.get("bias")
    return function(x, weight, bias, a["stride"], a["padding"], a["dilation"], a["groups"])


def conv_transpose(node: Node, x: Tensor) -> Tensor:
    """The adjoint of a convolution (and a bias)."""
    a = node.attributes
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(a["stride"]) - 1]
    weight, bias = node.tensors["weight"], node.tensors.get("bias")
    extra, groups, dilation = a["output_padding"], a["groups"], a["dilation"]
    return function(x, weight, bias, a["stride"], a["padding"], extra, groups, dilation)


def scale(node: Node, x: Tensor) -> Tensor:
    """``weight * x + bias``; either may be absent, both broadcast to the node's shape."""
    if "weight" in node.tensors:
        x = x * node.tensors["weight"]
    return x + node.tensors["bias"] if "bias" in node.tensors else x


def quotient(node: Node, x: Tensor) -> Tensor:
    """``x / divisor``, a constant that broadcasts to the node's shape."""
    return x / node.tensors["divisor"]


def batch_norm(node: Node, x: Tensor) -> Tensor:
    """``(x - mean) / sqrt(variance + epsilon) weight + bias`` with stored numbers, per channel."""
    t, sides = node.tensors, (-1, *[1] * (x.ndim - 2))
    deviation = (t["variance"] + node.attributes["epsilon"]).sqrt()
    factor = (t["weight"] / deviation).reshape(sides)
    return (x - t["mean"].reshape(sides)) * factor + t["bias"].reshape(sides)


def divide(node: Node, x: Tensor, y: Tensor) -> Tensor:
    """Quotient; of integers (shapes are computed with them) towards zero, as ONNX has it."""
    if x.is_floating_point() or y.is_floating_point():
        return x / y
    return torch.div(x, y, rounding_mode="trunc")


def power(node: Node, x: Tensor) -> Tensor:
    """``x ** exponent`` for a constant exponent."""
    return in_whole_vectors(lambda x: x ** node.attributes["exponent"], x)


def gelu(node: Node, x: Tensor) -> Tensor:
    """``x Phi(x)``, or its approximation by tanh (Hendrycks & Gimpel 2016).

    An ``error`` among its attributes is by how much a file's own formula may differ from it.
    """
    approximate = node.attributes.get("approximate", "none")
    return in_whole_vectors(lambda x: F.gelu(x, approximate=approximate), x)


def clip(node: Node, x: Tensor) -> Tensor:
    """Between ``low`` and ``high``, either of which may be infinite."""
    return x.clamp(node.attributes["low"], node.attributes["high"])


def softmax(node: Node, x: Tensor) -> Tensor:
    """Along ``axis``."""
    return x.softmax(node.attributes["axis"] + 1)


def max_pool(node: Node, x: Tensor) -> Tensor:
    """Largest value of each window; windows at the edge see what there is."""
    a = node.attributes
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(a["kernel"]) - 1]
    return function(
        x, a["kernel"], a["stride"], a["padding"], a["dilation"], ceil_mode=a["ceil_mode"]
    )


def avg_pool(node: Node, x: Tensor) -> Tensor:
    """Mean of each window; ``count_padding`` counts the zeros of the padding too."""
    a = node.attributes
    if len(a["kernel"]) == 1:
        return F.avg_pool1d(
            x, a["kernel"], a["stride"], a["padding"], count_include_pad=a["count_padding"]
        )
    function = (F.avg_pool2d, F.avg_pool3d)[len(a["kernel"]) - 2]
    return function(x, a["kernel"], a["stride"], a["padding"], count_include_pad=a["count_padding"])


def reshape(node: Node, x: Tensor) -> Tensor:
    """To ``shape``, row by row of the batch."""
    return x.reshape(len(x), *node.attributes["shape"])


def transpose(node: Node, x: Tensor) -> Tensor:
    """Axes in the order ``permutation``; the batch axis stays in front."""
    return x.permute(0, *(axis + 1 for axis in node.attributes["permutation"]))


def expand(node: Node, x: Tensor) -> Tensor:
    """Broadcast to ``shape``, which may have more axes in front."""
    shape = node.attributes["shape"]
    x = x.reshape(len(x), *[1] * (len(shape) - x.ndim + 1), *x.shape[1:])
    return x.expand(len(x), *shape)


def take(node: Node, x: Tensor) -> Tensor:
    """Entries ``indices`` of ``axis``, in that order, repetitions allowed."""
    return x.index_select(node.attributes["axis"] + 1, node.tensors["indices"])


def concat(node: Node, *values: Tensor) -> Tensor:
    """One after the other along ``axis``; constants are repeated for every row."""
    rows = max(map(len, values))
    return torch.cat([v.expand(rows, *v.shape[1:]) for v in values], node.attributes["axis"] + 1)


def pad(node: Node, x: Tensor) -> Tensor:
    """``value`` around x: ``before`` and ``after``, one number an axis; negative ones crop."""
    before, after = node.attributes["before"], node.attributes["after"]
    sides = [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
    return F.pad(x, sides, value=node.attributes["value"])


def reduce_sum(node: Node, x: Tensor) -> Tensor:
    """Sum over ``axes``, which are kept with size 1."""
    axes = [axis + 1 for axis in node.attributes["axes"]]
    return x.sum(axes, keepdim=True) if axes else x


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda node, x: function(x)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda node, x, y: function(x, y)


OPERATORS: dict[str, Operator] = {
    "input": lambda node: torch.empty(0),
    "constant": lambda node: node.tensors["value"].unsqueeze(0),
    "linear": linear,
    "conv": conv,
    "conv-transpose": conv_transpose,
    "scale": scale,
    "quotient": quotient,
    "batch-norm": batch_norm,
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "div": divide,
    "matmul": _binary(torch.matmul),
    "relu": _unary(torch.relu),
    "leaky-relu": lambda node, x: F.leaky_relu(x, node.attributes["slope"]),
    "sigmoid": lambda node, x: in_whole_vectors(torch.sigmoid, x),
    "tanh": lambda node, x: in_whole_vectors(torch.tanh, x),
    "gelu": gelu,
    "exp": _unary(torch.exp),
    "log": _unary(torch.log),
    "reciprocal": _unary(torch.reciprocal),
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "power": power,
    "sin": _unary(torch.sin),
    "cos": _unary(torch.cos),
    "abs": _unary(torch.abs),
    "clip": clip,
    "sign": _unary(torch.sign),
    "floor": _unary(torch.floor),
    "softmax": softmax,
    "max-pool": max_pool,
    "avg-pool": avg_pool,
    "reshape": reshape,
    "transpose": transpose,
    "expand": expand,
    "take": take,
    "concat": concat,
    "pad": pad,
    "reduce-sum": reduce_sum,
}
"""Every operator by name."""

ELEMENTWISE = (
    *("relu", "leaky-relu", "sigmoid", "tanh", "gelu", "exp", "log", "reciprocal", "sqrt"),
    *("square", "power", "sin", "cos", "abs", "clip", "sign", "floor"),
)
"""Operators that apply one function of one number everywhere."""
