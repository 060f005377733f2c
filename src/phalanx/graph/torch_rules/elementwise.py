"""ATen operators on single numbers, and on two tensors number by number."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from phalanx.graph.repairs import repair_of
from phalanx.graph.torch_rules import Call, rule

_UNARY = {
    **{name: name for name in ("relu", "sigmoid", "tanh", "exp", "log", "reciprocal", "sqrt")},
    **{name: name for name in ("square", "sin", "cos", "abs", "sign", "floor")},
}
_SAME = ("dropout", "dropout_", "alias", "contiguous", "clone", "detach", "feature_dropout")


@rule(*_UNARY, "relu_", "sigmoid_", "tanh_")
def unary(call: Call) -> str:
    """One function of one number."""
    return call.add(_UNARY[call.op.removesuffix("_")], call.value(call.arguments()["self"]))


@rule(*_SAME)
def same(call: Call) -> str:
    """Nothing, in evaluation."""
    arguments = call.arguments()
    if arguments.get("train"):
        raise call.refusal("dropout in training mode", "call .eval() on the network")
    return call.value(arguments.get("self", arguments.get("input")))


@rule("to", "_to_copy")
def to(call: Call) -> str:
    """Between floating-point types, which a graph does not tell apart."""
    if not call.node.meta["val"].is_floating_point():
        raise call.refusal("it casts to a type that is not floating-point")
    return call.value(call.arguments()["self"])


@rule("sym_size", "size")
def size(call: Call) -> None:
    """The batch's size; no node stands for it, and no rule reads it."""
    return


@rule("leaky_relu", "leaky_relu_")
def leaky_relu(call: Call) -> str:
    """Slope ``negative_slope`` below zero."""
    arguments = call.arguments()
    slope = float(arguments["negative_slope"])
    return call.add("leaky-relu", call.value(arguments["self"]), slope=slope)


@rule("gelu")
def gelu(call: Call) -> str:
    """Exact, or approximated by tanh."""
    arguments = call.arguments()
    return call.add("gelu", call.value(arguments["self"]), approximate=arguments["approximate"])


@rule("erf")
def erf(call: Call) -> Any:
    """A part of GELU (`phalanx.graph.formulas`), or refused in the end."""
    refused = call.refusal("it is no part of a GELU", repair_of(call.op))
    return call.opaque(refused)


@rule("silu", "silu_")
def silu(call: Call) -> str:
    """``x sigmoid(x)``."""
    x = call.value(call.arguments()["self"])
    return call.add("mul", x, call.add("sigmoid", x))


@rule("clamp", "clamp_", "clamp_min", "clamp_max", "hardtanh", "hardtanh_", "relu6")
def clip(call: Call) -> str:
    """Between two numbers."""
    a = call.arguments()
    low = a.get("min", a.get("min_val"))
    high = a.get("max", a.get("max_val"))
    if call.op == "relu6":
        low, high = 0, 6
    if isinstance(low, fx.Node) or isinstance(high, fx.Node):
        raise call.refusal("its bounds are tensors")
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return call.add("clip", call.value(a["self"]), low=float(low), high=float(high))


@rule("neg")
def negative(call: Call) -> str:
    """``-x``."""
    return call.scaled(call.value(call.arguments()["self"]), weight=-1.0)


@rule("rsqrt")
def inverse_root(call: Call) -> str:
    """``1 / sqrt(x)``."""
    return call.add("reciprocal", call.add("sqrt", call.value(call.arguments()["self"])))


@rule("pow")
def power(call: Call) -> str:
    """A constant exponent."""
    a = call.arguments()
    exponent = a["exponent"]
    if isinstance(exponent, fx.Node):
        raise call.refusal("its exponent is a tensor")
    x = call.value(a["self"])
    special = {2: "square", 0.5: "sqrt", -1: "reciprocal"}.get(exponent)
    if exponent == 1:
        return x
    return call.add(special, x) if special else call.add("power", x, exponent=float(exponent))


@rule("add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "rsub")
def arithmetic(call: Call) -> str:
    """Of two tensors, or of a tensor and a constant."""
    a, op = call.arguments(), call.op.removesuffix("_")
    x, y = a["self"], a["other"]
    if op == "rsub":
        x, y, op = y, x, "sub"
    if a.get("alpha", 1) != 1:
        raise call.refusal("its argument alpha is not 1", "multiply first")
    if call.is_constant(y) and not call.is_constant(x):
        return _with_constant(call, op, x, y)
    if call.is_constant(x) and not call.is_constant(y):
        turned = call.value(y)
        if op == "sub":
            turned, op = call.scaled(turned, weight=-1.0), "add"
        elif op == "div":
            turned, op = call.add("reciprocal", turned), "mul"
        return _scaled(call, op, turned, call.constant(x))
    return call.add(op, *_aligned(call, x, y))


@rule("maximum", "minimum")
def extreme(call: Call) -> str:
    """``max(a, b) = b + relu(a - b)``; ``min(a, b) = b - relu(b - a)``."""
    a = call.arguments()
    x, y = _aligned(call, a["self"], a["other"])
    if call.op == "maximum":
        return call.add("add", y, call.add("relu", call.add("sub", x, y)))
    return call.add("sub", y, call.add("relu", call.add("sub", y, x)))


def _with_constant(call: Call, op: str, x: Any, y: Any) -> str:
    constant = call.constant(y)
    if op == "sub":
        constant = -constant
    return _scaled(call, {"sub": "add"}.get(op, op), call.value(x), constant)


def _scaled(call: Call, op: str, x: str, constant: torch.Tensor) -> str:
    if constant.ndim == len(call.node.meta["val"].shape):
        if len(constant) != 1:
            raise call.refusal("a constant differs along the batch")
        constant = constant[0]
    if not constant.is_floating_point():
        constant = constant.to(torch.get_default_dtype())
    if op == "div":
        return call.divided(x, constant)
    return call.scaled(x, **{"bias" if op == "add" else "weight": constant})


def _aligned(call: Call, x: fx.Node, y: fx.Node) -> tuple[str, str]:
    """Both with as many axes, so that broadcasting cannot put a batch on another axis."""
    if not call.is_constant(x) and not call.is_constant(y) and call.rank(x) != call.rank(y):
        raise call.refusal(
            "its operands have different numbers of axes", "unsqueeze(1) the smaller"
        )
    return call.value(x), call.value(y)
