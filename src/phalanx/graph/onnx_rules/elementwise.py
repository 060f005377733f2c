"""ONNX operators on single numbers, and on two tensors number by number."""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from phalanx.graph.onnx_rules import Call, Value, rule
from phalanx.graph.repairs import repair_of

_UNARY = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Exp": "exp",
    "Log": "log",
    "Reciprocal": "reciprocal",
    "Sqrt": "sqrt",
    "Sin": "sin",
    "Cos": "cos",
    "Abs": "abs",
    "Sign": "sign",
    "Floor": "floor",
}
_ON_CONSTANTS = {
    "Equal": torch.eq,
    "Less": torch.lt,
    "Greater": torch.gt,
    "And": torch.logical_and,
    "Or": torch.logical_or,
}


@rule(*_UNARY)
def unary(call: Call, values: list[Value]) -> Value:
    """One function of one number."""
    return same(call, _UNARY[call.op], values[0])


@rule("LeakyRelu")
def leaky_relu(call: Call, values: list[Value]) -> Value:
    """Slope ``alpha`` below zero."""
    return same(call, "leaky-relu", values[0], slope=call.number("alpha", 0.01))


@rule("Gelu")
def gelu(call: Call, values: list[Value]) -> Value:
    """Exact, or approximated by tanh."""
    return same(call, "gelu", values[0], approximate=call.get("approximate", "none"))


@rule("Erf")
def erf(call: Call, values: list[Value]) -> Value:
    """A part of GELU (`phalanx.graph.formulas`), or refused in the end."""
    refused = call.refusal("it is no part of a GELU", repair_of(call.op))
    return call.opaque(values, values[0].shape, refused)


@rule("Clip")
def clip(call: Call, values: list[Value]) -> Value:
    """Bounds are attributes up to operator set 10, inputs from 11 on."""
    bounds = [call.get("min", -math.inf), call.get("max", math.inf)]
    for place, value in enumerate(values[1:3]):
        if value is not None:
            bounds[place] = call.needed(value, "bound").item()
    return same(call, "clip", values[0], low=float(bounds[0]), high=float(bounds[1]))


@rule("HardSigmoid")
def hard_sigmoid(call: Call, values: list[Value]) -> Value:
    """``clip(alpha x + beta, 0, 1)``."""
    slope, shift = torch.tensor(call.get("alpha", 0.2)), torch.tensor(call.get("beta", 0.5))
    line = same(call, "scale", values[0], tensors={"weight": slope, "bias": shift})
    return same(call, "clip", line, low=0.0, high=1.0)


@rule("Pow")
def power(call: Call, values: list[Value]) -> Value:
    """A constant exponent, the same everywhere."""
    exponents = call.needed(values[1], "exponent").double().flatten()
    exponent = float(exponents[0])
    if (exponents != exponent).any():
        raise call.refusal("its exponents differ from number to number")
    if special := {1.0: "", 2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}.get(exponent):
        return same(call, special, values[0])
    return values[0] if exponent == 1 else same(call, "power", values[0], exponent=exponent)


@rule("Neg")
def negative(call: Call, values: list[Value]) -> Value:
    """``-x``."""
    return same(call, "scale", values[0], tensors={"weight": torch.tensor(-1.0)})


@rule("Add", "Sum")
def add(call: Call, values: list[Value]) -> Value:
    """Sum of two, or of more."""
    _alike(call, values)
    total = values[0]
    for value in values[1:]:
        total = binary(call, "add", total, value)
    return total


def _alike(call: Call, values: list[Value]) -> None:
    """Operators on any number of tensors broadcast them from operator set 8 on."""
    several = call.op != "Add" and call.version < 8
    if several and len({value.shape for value in values}) > 1:
        raise call.refusal("its inputs are of several shapes")


@rule("Sub", "Mul", "Div")
def arithmetic(call: Call, values: list[Value]) -> Value:
    """Difference, product, quotient."""
    return binary(call, call.op.lower(), values[0], values[1])


@rule("Max", "Min")
def extreme(call: Call, values: list[Value]) -> Value:
    """``max(a, b) = b + relu(a - b)``; ``min(a, b) = -max(-a, -b)``."""
    _alike(call, values)
    sign = torch.tensor(1.0 if call.op == "Max" else -1.0)

    def signed(value: Value) -> Value:
        return same(call, "scale", value, tensors={"weight": sign})

    largest = signed(values[0])
    for value in map(signed, values[1:]):
        excess = same(call, "relu", binary(call, "sub", largest, value))
        largest = binary(call, "add", value, excess)
    return signed(largest)


@rule("PRelu")
def parametric_relu(call: Call, values: list[Value]) -> Value:
    """``relu(x) - slope relu(-x)``, the slope being constant."""
    x, slope = values
    flipped = same(call, "scale", x, tensors={"weight": torch.tensor(-1.0)})
    below = binary(call, "mul", same(call, "relu", flipped), slope)
    return binary(call, "sub", same(call, "relu", x), below)


@rule("Where")
def where(call: Call, values: list[Value]) -> Value:
    """A constant condition; a product with its ones and zeros on either side."""
    condition = call.needed(values[0], "condition").bool()
    x, y = values[1:]
    if call.constant(x) is not None and call.constant(y) is not None:
        chosen = torch.where(condition, call.needed(x, "value"), call.needed(y, "value"))
        return Value(call.builder.constant(chosen, name=call.name), tuple(chosen.shape))
    masks = [
        Value(call.builder.constant(m.float()), tuple(m.shape)) for m in (condition, ~condition)
    ]
    return binary(call, "add", binary(call, "mul", x, masks[0]), binary(call, "mul", y, masks[1]))


@rule(*_ON_CONSTANTS)
def comparison(call: Call, values: list[Value]) -> Value:
    """Of constants; one of the input is a step, which no method here bounds."""
    result = _ON_CONSTANTS[call.op](*(call.needed(value, "operand") for value in values))
    return Value(call.builder.constant(result, name=call.name), tuple(result.shape))


_PARTS = {
    "add": ("scale", "bias"),
    "sub": ("scale", "bias"),
    "mul": ("scale", "weight"),
    "div": ("quotient", "divisor"),
}
"""Operator and tensor that a constant becomes."""


def same(call: Call, op: str, value: Value, **options: Any) -> Value:
    """An operator that keeps the shape and the place of the batch."""
    return call.add(op, [value], value.shape, axis=value.axis, **options)


def binary(call: Call, op: str, x: Value, y: Value) -> Value:
    """Two tensors, number by number, broadcast as ONNX does: from the last axis."""
    constants = call.constant(x), call.constant(y)
    # Numbers of the file that are not to be rounded: affine in the first of them.
    numbers = constants[0] is None or constants[0].is_floating_point()
    if numbers and constants[1] is not None:
        return _with_constant(call, op, x, constants[1])
    if constants[0] is not None and constants[1] is None:
        if op in ("add", "mul"):
            return _with_constant(call, op, y, constants[0])
        inner = {"sub": "Neg", "div": "Reciprocal"}[op]
        turned = negative(call, [y]) if inner == "Neg" else same(call, "reciprocal", y)
        return _with_constant(call, {"sub": "add", "div": "mul"}[op], turned, constants[0])
    if x.axis is None or x.axis != y.axis or len(x.shape) != len(y.shape):
        x, y = call.plain(x), call.plain(y)
    return call.add(op, [x, y], axis=x.axis)


def _with_constant(call: Call, op: str, x: Value, constant: Tensor) -> Value:
    """``scale`` or ``quotient``, with the constant's axes set against those of the node."""
    if not constant.is_floating_point():
        if bool((constant.abs() > 1 << 24).any()):
            raise call.refusal("single precision does not hold its whole numbers")
        constant = constant.float()
    if op == "sub":
        constant = -constant
    if x.axis is not None:
        place = x.axis - len(x.shape)  # from the right, where broadcasting starts
        if constant.ndim > len(x.shape) or (constant.ndim >= -place and constant.shape[place] != 1):
            x = call.plain(x)
        elif constant.ndim >= -place:
            constant = constant.squeeze(place)
    shape = _broadcast(x.shape, constant.shape, x.axis)
    kind, part = _PARTS[op]
    return call.add(kind, [x], shape, axis=x.axis, tensors={part: constant})


def _broadcast(
    shape: tuple[int, ...], other: torch.Size, axis: int | None
) -> tuple[int, ...] | None:
    """The ONNX shape of a node that a constant makes no larger; None: ask the node."""
    if axis is not None or len(other) > len(shape):
        return None
    pairs = zip_longest(reversed(shape), reversed(other), fillvalue=1)
    return tuple(max(pair) for pair in pairs)[::-1]
