"""Affine operators from their definition in the graph alone: image, magnitude, adjoint, lengths.

Nothing is asked of `phalanx.bounds.ops`: the linear part is the operator without its constants, its
adjoint what differentiating that gives. Values are ``(N, *shape)``; rows of coefficients likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import torch
from torch import Tensor
from torch.nn.grad import conv1d_input, conv2d_input, conv3d_input

from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS

MOVES = ("reshape", "transpose", "expand", "take", "concat", "pad")
"""Operators that copy numbers, so that nothing is rounded on the way forward."""
AFFINE = (
    *MOVES,
    *("linear", "conv", "conv-transpose", "scale", "add", "sub", "avg-pool", "reduce-sum"),
)
_GRADIENTS = (conv1d_input, conv2d_input, conv3d_input)


def image(node: Node, values: Sequence[Tensor]) -> Tensor:
    """What the operator computes."""
    return OPERATORS[node.op](node, *values)


def offset(node: Node, like: Tensor) -> Tensor:
    """Its value at zero ``(1, *shape)``."""
    shapes = node.attributes["inputs"]
    return image(node, [like.new_zeros(1, *shape) for shape in shapes])


def linear(node: Node, values: Sequence[Tensor]) -> Tensor:
    """What it computes less its value at zero."""
    return OPERATORS[node.op](_bare(node), *values)


def magnitude(node: Node, values: Sequence[Tensor]) -> Tensor:
    """The linear part with absolute coefficients, of values that are not negative."""
    bare = _bare(node)
    if "weight" in bare.tensors:
        weight = bare.tensors["weight"].abs()
        bare = replace(bare, tensors={**bare.tensors, "weight": weight})
    op = "add" if node.op == "sub" else node.op
    return OPERATORS[op](bare, *values)


def adjoint(node: Node, rows: Tensor) -> list[Tensor]:
    """Coefficients ``(S, *input shape)`` for every input, of rows ``(S, *node.shape)``."""
    bare, shapes = _bare(node), node.attributes["inputs"]
    if node.op == "linear":
        return [rows @ bare.tensors["weight"]]
    if node.op == "conv":
        a = node.attributes
        back = _GRADIENTS[len(a["stride"]) - 1]
        size, weight = (len(rows), *shapes[0]), bare.tensors["weight"]
        steps = (a["stride"], a["padding"], a["dilation"], a["groups"])
        return [back(size, weight, rows, *steps)]
    # Not torch.func.vjp, nor grad with rows of its own: their first use imports torch's compiler,
    # for seconds. The gradient of ``sum rows . value`` begins with the rows as they are.
    with torch.enable_grad():
        zeros = [rows.new_zeros(len(rows), *shape).requires_grad_(True) for shape in shapes]
        value = (OPERATORS[node.op](bare, *zeros) * rows).sum()
    return list(torch.autograd.grad(value, zeros))


def lengths(node: Node) -> tuple[int, int]:
    """How many terms one number of the image sums at most, and one of the adjoint.

    What went into its constants before counts as well (`phalanx.graph.simplify`).

    >>> lengths(Node("", "linear", (), (2,), tensors={"weight": torch.zeros(2, 3)}))
    (5, 4)
    """
    weight, numbers = node.tensors.get("weight"), prod(node.shape)
    if node.op == "linear" and weight is not None:
        forward, back = weight.shape[1], weight.shape[0]
    elif node.op == "conv" and weight is not None:
        forward, back = prod(weight.shape[1:]), weight.shape[0] * prod(weight.shape[2:])
    elif node.op == "conv-transpose" and weight is not None:
        kernel = prod(weight.shape[2:])
        forward = weight.shape[0] * kernel
        back = weight.shape[1] * node.attributes["groups"] * kernel
    elif node.op == "reduce-sum":
        forward, back = prod(node.attributes["inputs"][0]), 1
    elif node.op == "avg-pool":
        forward, back = prod(node.attributes["kernel"]), numbers
    else:
        forward, back = 2, numbers  # what is broadcast or taken often is summed on the way back
    before = 2 + roundings(node)
    return forward + before, back + before


def roundings(node: Node) -> int:
    """How many went into each constant of an operator, which is relatively off by as many units."""
    return int(node.attributes.get("roundings", 0))


def _bare(node: Node) -> Node:
    tensors = {name: tensor for name, tensor in node.tensors.items() if name != "bias"}
    attributes = {**node.attributes, "value": 0.0} if node.op == "pad" else node.attributes
    return replace(node, tensors=tensors, attributes=attributes)
