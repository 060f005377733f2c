"""ATen operators with weights or windows: products, convolutions, pooling, normalisation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from phalanx.graph.torch_rules import Call, rule


@rule("linear")
def linear(call: Call) -> str:
    """``x W^T + b``."""
    a = call.arguments()
    return call.add("linear", call.value(a["input"]), tensors=_weights(call, a))


@rule("addmm")
def addmm(call: Call) -> str:
    """``b + x W``."""
    a = call.arguments()
    tensors = {"weight": call.constant(a["mat2"]).mT.contiguous(), "bias": call.constant(a["self"])}
    return call.add("linear", call.value(a["mat1"]), tensors=tensors)


@rule("matmul", "mm", "bmm")
def matmul(call: Call) -> str:
    """With a constant matrix on the right, or of two variables."""
    a = call.arguments()
    x, y = a["self"], a.get("other", a.get("mat2"))
    if call.is_constant(y) and not call.is_constant(x) and call.constant(y).ndim == 2:
        weight = call.constant(y).mT.contiguous()
        return call.add("linear", call.value(x), tensors={"weight": weight})
    if not call.is_constant(x) and not call.is_constant(y) and call.rank(x) != call.rank(y):
        raise call.refusal("its operands have different numbers of axes")
    return call.add("matmul", call.value(x), call.value(y))


@rule("conv1d", "conv2d", "conv3d")
def conv(call: Call) -> str:
    """With numbers, or ``same`` and ``valid``, as padding."""
    a = call.arguments()
    tensors = _weights(call, a)
    axes = tensors["weight"].ndim - 2
    dilation = _each(a["dilation"], axes)
    padding = a["padding"]
    if padding == "valid":
        padding = 0
    elif padding == "same":
        reach = [d * (k - 1) for d, k in zip(dilation, tensors["weight"].shape[2:], strict=True)]
        if any(n % 2 for n in reach):
            raise call.refusal("padding 'same' differs from side to side", "pad with numbers")
        padding = [n // 2 for n in reach]
    return call.add(
        "conv",
        call.value(a["input"]),
        tensors=tensors,
        stride=_each(a["stride"], axes),
        padding=_each(padding, axes),
        dilation=dilation,
        groups=a["groups"],
    )


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(call: Call) -> str:
    """The adjoint of a convolution."""
    a = call.arguments()
    tensors = _weights(call, a)
    keys = ("stride", "padding", "output_padding", "dilation")
    sizes = {key: _each(a[key], tensors["weight"].ndim - 2) for key in keys}
    return call.add(
        "conv-transpose", call.value(a["input"]), tensors=tensors, groups=a["groups"], **sizes
    )


@rule("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(call: Call) -> str:
    """Largest value of each window."""
    a = call.arguments()
    axes = int(call.op[-2])
    kernel = _each(a["kernel_size"], axes)
    return call.add(
        "max-pool",
        call.value(a["self"]),
        kernel=kernel,
        stride=_each(a["stride"], axes) if a["stride"] else kernel,
        padding=_each(a["padding"], axes),
        dilation=_each(a["dilation"], axes),
        ceil_mode=bool(a["ceil_mode"]),
    )


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(call: Call) -> str:
    """Mean of each window."""
    a = call.arguments()
    if a["ceil_mode"] or a.get("divisor_override"):
        raise call.refusal("ceil_mode and divisor_override are not read")
    axes = int(call.op[-2])
    kernel = _each(a["kernel_size"], axes)
    return call.add(
        "avg-pool",
        call.value(a["self"]),
        kernel=kernel,
        stride=_each(a["stride"], axes) if a["stride"] else kernel,
        padding=_each(a["padding"], axes),
        count_padding=bool(a["count_include_pad"]),
    )


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def adaptive_avg_pool(call: Call) -> str:
    """Where all windows are equal."""
    a = call.arguments()
    axes = int(call.op[-2])
    sizes = call.builder[call.value(a["self"])].shape[-axes:]
    wanted = _each(a["output_size"], axes)
    if any(size % out for size, out in zip(sizes, wanted, strict=True)):
        raise call.refusal(f"{sizes} cannot be cut into {wanted} equal windows")
    kernel = tuple(size // out for size, out in zip(sizes, wanted, strict=True))
    return call.add(
        "avg-pool",
        call.value(a["self"]),
        kernel=kernel,
        stride=kernel,
        padding=(0,) * axes,
        count_padding=False,
    )


@rule("batch_norm")
def batch_norm(call: Call) -> str:
    """With stored statistics, per channel."""
    a = call.arguments()
    if a["training"] or a["running_mean"] is None:
        raise call.refusal(
            "it normalises over the batch", "train with running statistics and call .eval()"
        )
    mean, variance = call.constant(a["running_mean"]), call.constant(a["running_var"])
    weight, bias = (None if a[key] is None else call.constant(a[key]) for key in ("weight", "bias"))
    tensors = {
        "mean": mean,
        "variance": variance,
        "weight": torch.ones_like(mean) if weight is None else weight,
        "bias": torch.zeros_like(mean) if bias is None else bias,
    }
    return call.add("batch-norm", call.value(a["input"]), tensors=tensors, epsilon=float(a["eps"]))


@rule("layer_norm")
def layer_norm(call: Call) -> str:
    """``(x - mean) / sqrt(variance + e) gamma + beta`` over the last axes."""
    a = call.arguments()
    x = call.value(a["input"])
    rank = len(call.builder[x].shape)
    axes = tuple(range(rank - len(a["normalized_shape"]), rank))
    count = math.prod(a["normalized_shape"])

    def mean(name: str) -> str:
        return call.divided(call.add("reduce-sum", name, axes=axes), count)

    centred = call.add("sub", x, mean(x))
    variance = mean(call.add("square", centred))
    deviation = call.add("sqrt", call.scaled(variance, bias=float(a["eps"])))
    normal = call.add("mul", centred, call.add("reciprocal", deviation))
    parts = {k: call.constant(a[k]) for k in ("weight", "bias") if a[k] is not None}
    return call.scaled(normal, **parts) if parts else normal


@rule("softmax", "_softmax")
def softmax(call: Call) -> str:
    """Along one axis."""
    a = call.arguments()
    axis = call.inner(a["dim"], call.rank(a["self"]))
    return call.add("softmax", call.value(a["self"]), axis=axis)


@rule("scaled_dot_product_attention")
def attention(call: Call) -> str:
    """``softmax(q k^T / sqrt(d)) v``, with a constant mask added or none."""
    a = call.arguments()
    if a["is_causal"] or a["dropout_p"]:
        raise call.refusal("it is causal or drops", "pass the mask as a constant tensor")
    q, k, v = (call.value(a[key]) for key in ("query", "key", "value"))
    shape = call.builder[k].shape
    swapped = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    scores = call.add("matmul", q, call.add("transpose", k, permutation=swapped))
    factor = a["scale"] or 1 / math.sqrt(shape[-1])
    mask: Any = a["attn_mask"]
    if isinstance(mask, fx.Node):
        mask = call.constant(mask)
        if mask.dtype == torch.bool:
            raise call.refusal("its mask cuts entries off", "leave the mask out")
    scores = call.scaled(scores, weight=factor, bias=mask)
    return call.add("matmul", call.add("softmax", scores, axis=len(shape) - 1), v)


def _weights(call: Call, arguments: dict[str, Any]) -> dict[str, torch.Tensor]:
    keys = [key for key in ("weight", "bias") if arguments.get(key) is not None]
    return {key: call.constant(arguments[key]) for key in keys}


def _each(value: Any, axes: int) -> tuple[int, ...]:
    sizes = [value] if isinstance(value, int) else list(value)
    return tuple(sizes * axes if len(sizes) == 1 else sizes)
