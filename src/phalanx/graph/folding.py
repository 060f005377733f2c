"""Constants of constants, computed at once where that is exact.

What is proven holds for the file's own numbers. A constant that the reader rounded would be another
number, and every method and every checker would start from it; so one that its type does not hold
stays what the file says it is: an operator on constants, whose roundings each method counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS

MOVES = ("reshape", "transpose", "expand", "take", "concat", "relu", "abs", "sign", "floor")
"""Operators whose results are numbers they read, or whole numbers of these types."""

CHOICES = ("pad", "clip")
"""Operators whose results are numbers they read, or numbers of their own of any type."""


def exactly(node: Node, operands: Sequence[Tensor], found: Tensor) -> bool:
    """Whether ``found`` is what the operator makes of constants, no number of it being rounded.

    Where that is not seen the answer is False: of exponentials and the like, and of sums of terms
    that are far apart.

    >>> node = Node("y", "add", ("a", "b"), (1,))
    >>> tenth, fifth, half = (torch.tensor([x]) for x in (0.1, 0.2, 0.5))
    >>> exactly(node, [tenth, fifth], tenth + fifth), exactly(node, [half, half], half + half)
    (False, True)
    """
    if node.op in MOVES or not found.is_floating_point():
        return True
    if node.op not in (*CHOICES, *_EXACT):
        return False
    wide = [_widened(operand) for operand in (*operands, *node.tensors.values())]
    if any(tensor is None for tensor in wide):
        return False
    values = [tensor for tensor in wide[: len(operands)] if tensor is not None]
    tensors = dict(zip(node.tensors, wide[len(operands) :], strict=True))
    node = replace(node, tensors={key: t for key, t in tensors.items() if t is not None})
    if not torch.equal(found.double(), OPERATORS[node.op](node, *values)):
        return False
    return node.op in CHOICES or _EXACT[node.op](node, *values)


def _widened(tensor: Tensor) -> Tensor | None:
    """In double precision; None for whole numbers that it does not hold."""
    if not tensor.is_floating_point() and bool((tensor.abs() > 2**53).any()):
        return None
    return tensor.double()


class _Number(NamedTuple):
    """Numbers of double precision, and the lowest bit of each: infinite of a zero."""

    value: Tensor
    bit: Tensor


def _number(value: Tensor) -> _Number:
    mantissa, exponent = torch.frexp(value)
    whole = torch.ldexp(mantissa, torch.tensor(53)).nan_to_num(0.0, 0.0, 0.0).long()
    bit = torch.ldexp((whole & -whole).double(), exponent - 53)
    return _Number(value, torch.where(value == 0, torch.inf, bit))


def _holds(value: Tensor, bit: Tensor) -> bool:
    """Whether a multiple of ``bit`` has been computed exactly: a larger one comes out as 2^53.

    It is so of a product and of a sum alike, as long as neither is below the least float.
    """
    return bool(((bit > 0) & (value.abs() < bit * 2.0**53)).all())


def _product(x: Tensor, y: Tensor) -> bool:
    return _holds(x * y, _number(x).bit * _number(y).bit)


def _sum(x: Tensor, y: Tensor) -> bool:
    return _holds(x + y, torch.minimum(_number(x).bit, _number(y).bit))


def _quotient(x: Tensor, y: Tensor) -> bool:
    """A rounded quotient is the quotient where it gives back what was divided."""
    found = x / y
    return _product(found, y) and torch.equal(found * y, x.expand(found.shape))


def _scale(node: Node, x: Tensor) -> bool:
    if "weight" in node.tensors:
        weight = node.tensors["weight"]
        if not _product(x, weight):
            return False
        x = x * weight
    return "bias" not in node.tensors or _sum(x, node.tensors["bias"])


def _root(node: Node, x: Tensor) -> bool:
    root = x.sqrt()
    return _product(root, root) and torch.equal(root * root, x)


def _whole_sum(node: Node, x: Tensor) -> bool:
    """All sums on the way are multiples of the lowest bit, and below the sum of all sizes."""
    return x.numel() == 0 or _holds(x.abs().sum(), _number(x).bit.min())


def _whole_products(x: Tensor, y: Tensor) -> bool:
    """Likewise of a product of matrices."""
    bits = [_number(part).bit.flatten() for part in (x, y)]
    sizes = x.abs() @ y.abs()
    return sizes.numel() == 0 or _holds(sizes.max(), bits[0].min() * bits[1].min())


def _linear(node: Node, x: Tensor) -> bool:
    return "bias" not in node.tensors and _whole_products(x, node.tensors["weight"].mT)


def _leaky(node: Node, x: Tensor) -> bool:
    slope = torch.tensor(node.attributes["slope"], dtype=torch.float64)
    return _product(x.clamp_max(0), slope)


_EXACT: dict[str, Callable[..., bool]] = {
    "add": lambda node, x, y: _sum(x, y),
    "sub": lambda node, x, y: _sum(x, -y),
    "mul": lambda node, x, y: _product(x, y),
    "square": lambda node, x: _product(x, x),
    "div": lambda node, x, y: _quotient(x, y),
    "quotient": lambda node, x: _quotient(x, node.tensors["divisor"]),
    "reciprocal": lambda node, x: _quotient(torch.ones_like(x), x),
    "scale": _scale,
    "sqrt": _root,
    "reduce-sum": _whole_sum,
    "linear": _linear,
    "matmul": lambda node, x, y: _whole_products(x, y),
    "leaky-relu": _leaky,
}
"""Whether an operator's result in double precision is exact, of numbers of double precision."""
