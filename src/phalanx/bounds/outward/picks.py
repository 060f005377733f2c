"""The first step back from single entries: rows of an affine operator's matrix, as they stand."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import unfold

from phalanx.bounds.outward.affine import roundings
from phalanx.graph.ir import Node

Shape = tuple[int, ...]


def picked(node: Node, entries: Tensor, sign: Tensor) -> tuple[Tensor, Tensor] | None:
    """Rows ``(S, *input shape)`` and constants ``(S,)`` that are ``sign`` times entries of a node.

    Nothing is rounded: they are weights and biases, or their negatives.

    Args:
        node: a layer of one input.
        entries: into its flat value ``(S,)``.
        sign: 1 or -1, ``(S,)``.

    Returns:
        None where the operator has no such rows at hand, or its numbers were rounded before.

    >>> node = Node("", "linear", (), (2,), {"inputs": ((2,),)}, {"weight": torch.eye(2).double()})
    >>> picked(node, torch.tensor([1]), -torch.ones(1).double())[0].tolist()
    [[-0.0, -1.0]]
    """
    weight = node.tensors.get("weight")
    if weight is None or roundings(node):
        return None
    if node.op == "linear" and len(node.shape) == 1:
        channel, rows = entries, weight[entries] * sign[:, None]
    elif node.op == "conv" and len(node.shape) == 3 and node.attributes["groups"] == 1:
        size = prod(node.shape[1:])
        channel = entries.div(size, rounding_mode="floor")
        place, there = _windows(node)
        at = entries.remainder(size)
        values = weight.flatten(1)[channel] * sign[:, None] * there[at]
        shape = node.attributes["inputs"][0]
        rows = values.new_zeros(len(entries), prod(shape)).scatter_add_(1, place[at], values)
        rows = rows.reshape(-1, *shape)
    else:
        return None
    bias = node.tensors.get("bias")
    return rows, torch.zeros_like(sign) if bias is None else bias[channel] * sign


def _windows(node: Node) -> tuple[Tensor, Tensor]:
    a = node.attributes
    kernel = tuple(node.tensors["weight"].shape[2:])
    steps = (tuple(a[key]) for key in ("dilation", "padding", "stride"))
    return _table(tuple(a["inputs"][0]), (kernel, *steps))


@lru_cache(maxsize=64)
def _table(shape: Shape, window: tuple[Shape, ...]) -> tuple[Tensor, Tensor]:
    """What each place of the output sees: flat entries ``(places, C k k)``, and whether they exist.

    >>> _table((1, 1, 2), ((1, 2), (1, 1), (0, 1), (1, 1)))[0].tolist()
    [[0, 0], [0, 1], [1, 0]]
    """
    numbers = torch.arange(1.0, prod(shape) + 1, dtype=torch.float64).reshape(1, *shape)
    seen = unfold(numbers, *window)[0].T.long()
    return (seen - 1).clamp_min(0), (seen > 0).to(torch.float64)
