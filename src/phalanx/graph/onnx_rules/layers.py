"""ONNX operators with weights or windows: products, convolutions, pooling, normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from phalanx.graph.onnx_rules import Call, Value, inner_axis, rule
from phalanx.graph.onnx_rules.elementwise import binary, same


@rule("Gemm")
def gemm(call: Call, values: list[Value]) -> Value:
    """``alpha A B + beta C``, A and B transposed where it says so."""
    a, b = values[:2]
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if call.flag("transA"):
        a = _swapped(call, a)
    if call.constant(scaled := _times(call, alpha, b)) is not None:
        alpha, b = 1.0, scaled  # else the product is scaled: a rounded weight is another one
    product, transposed = call.constant(b), call.flag("transB")
    if len(b.shape) != 2:
        raise call.refusal(f"its second input has shape {b.shape}")
    if product is None:
        found = matmul(call, [a, _swapped(call, b) if transposed else b])
    else:
        found = _linear(call, a, product if transposed else product.mT)
    found = _times(call, alpha, found)
    if len(values) > 2 and values[2] is not None:
        found = binary(call, "add", found, _times(call, beta, values[2]))
    return found


def _times(call: Call, factor: float, value: Value) -> Value:
    """One number times a value."""
    if factor == 1:
        return value
    return same(call, "scale", value, tensors={"weight": torch.tensor(factor)})


@rule("MatMul")
def matmul(call: Call, values: list[Value]) -> Value:
    """A product with a constant matrix on either side, or of two variables."""
    x, y = values
    left, right = call.constant(x), call.constant(y)
    if (left is None or left.is_floating_point()) and right is not None and right.ndim == 2:
        return _linear(call, x, right.mT)
    if left is not None and right is None and left.ndim == 2 and len(y.shape) >= 2:
        return _swapped(call, _linear(call, _swapped(call, y), left))
    if left is not None and right is None and len(y.shape) == 1:
        rows = _linear(call, call.plain(y), left.reshape(-1, left.shape[-1]))
        return call.reshaped(rows, left.shape[:-1], None)
    if not (x.axis == y.axis == 0 and len(x.shape) == len(y.shape) > 2):
        x, y = call.plain(x), call.plain(y)
    return _product(call, x, y)


def _product(call: Call, x: Value, y: Value) -> Value:
    """Of two variables; a vector is a row on the left and a column on the right."""
    row, column = len(x.shape) == 1, len(y.shape) == 1
    x = call.reshaped(x, (1, *x.shape), None) if row else x
    y = call.reshaped(y, (*y.shape, 1), None) if column else y
    found = call.add("matmul", [x, y], axis=x.axis)
    shape = list(found.shape)
    if column:
        del shape[-1]
    if row:
        del shape[-1 if column else -2]
    return call.reshaped(found, shape, found.axis) if row or column else found


@rule("Conv")
def conv(call: Call, values: list[Value]) -> Value:
    """Any number of axes up to three, groups and dilation; uneven padding becomes a node."""
    weight = call.needed(values[1], "weight")
    window = _window(call, weight)
    x, padding = _padded(call, call.batched(values[0]), window, 0.0)
    tensors = {"weight": weight, **_bias(call, values)}
    return call.add(
        "conv",
        [x],
        axis=0,
        tensors=tensors,
        padding=padding,
        groups=int(call.get("group", 1)),
        stride=_per_axis(call, "strides", window),
        dilation=_per_axis(call, "dilations", window),
    )


@rule("ConvTranspose")
def conv_transpose(call: Call, values: list[Value]) -> Value:
    """Even padding only."""
    weight = call.needed(values[1], "weight")
    window = _window(call, weight)
    pads = call.get("pads") or [0] * (2 * len(window))
    if pads[: len(window)] != pads[len(window) :] or call.get("output_shape"):
        raise call.refusal("padding differs from side to side or follows from a shape")
    if (automatic := call.get("auto_pad", "NOTSET")) not in ("NOTSET", "VALID"):
        raise call.refusal("auto_pad is not read", "export with explicit pads")
    if automatic == "VALID" and any(pads):
        raise call.refusal("it has both auto_pad and pads")
    x, tensors = call.batched(values[0]), {"weight": weight, **_bias(call, values)}
    if len(weight) != x.shape[1]:
        raise call.refusal(f"its weight has {len(weight)} channels for {x.shape[1]} of its input")
    extra = tuple(call.get("output_padding") or [0] * len(window))
    steps = [_per_axis(call, key, window) for key in ("strides", "dilations")]
    if not all(0 <= more < max(sizes) for more, *sizes in zip(extra, *steps, strict=True)):
        raise call.refusal(f"its output_padding is {list(extra)}")
    return call.add(
        "conv-transpose",
        [x],
        axis=0,
        tensors=tensors,
        padding=tuple(pads[: len(window)]),
        output_padding=extra,
        groups=int(call.get("group", 1)),
        stride=steps[0],
        dilation=steps[1],
    )


def _window(call: Call, weight: Tensor) -> tuple[int, ...]:
    """Sizes of a kernel: those of the weight, which the file may say again."""
    window = list(weight.shape[2:])
    call.only(kernel_shape=window)
    return tuple(window)


def _bias(call: Call, values: list[Value]) -> dict[str, Tensor]:
    """A number for each channel, where there is one."""
    if len(values) < 3 or values[2] is None:
        return {}
    bias = call.needed(values[2], "bias")
    if bias.ndim != 1:
        raise call.refusal(f"its bias has shape {tuple(bias.shape)}")
    return {"bias": bias}


@rule("MaxPool")
def max_pool(call: Call, values: list[Value]) -> Value:
    """Its values; their positions are not read."""
    if call.outputs > 1:
        raise call.refusal("the positions of the maxima are read")
    call.pass_over("storage_order")  # of those positions
    window = tuple(call.get("kernel_shape"))
    x, padding = _padded(call, call.batched(values[0]), window, -math.inf)
    return call.add(
        "max-pool",
        [x],
        axis=0,
        kernel=window,
        padding=padding,
        stride=_per_axis(call, "strides", window),
        dilation=_per_axis(call, "dilations", window),
        ceil_mode=call.flag("ceil_mode"),
    )


@rule("AveragePool")
def average_pool(call: Call, values: list[Value]) -> Value:
    """Zeros of the padding count where it says so."""
    window = tuple(call.get("kernel_shape"))
    counted = call.flag("count_include_pad")
    x, padding = _padded(call, call.batched(values[0]), window, 0.0 if counted else math.nan)
    if call.flag("ceil_mode") or any(n != 1 for n in call.get("dilations") or ()):
        raise call.refusal("ceil_mode and dilations are not read")
    return call.add(
        "avg-pool",
        [x],
        axis=0,
        kernel=window,
        padding=padding,
        stride=_per_axis(call, "strides", window),
        count_padding=counted,
    )


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(call: Call, values: list[Value]) -> Value:
    """One window, as large as the image."""
    x = call.batched(values[0])
    window = tuple(x.shape[2:])
    zeros, ones = (0,) * len(window), (1,) * len(window)
    if call.op == "GlobalAveragePool":
        return call.add(
            "avg-pool",
            [x],
            axis=0,
            kernel=window,
            stride=window,
            padding=zeros,
            count_padding=False,
        )
    return call.add(
        "max-pool",
        [x],
        axis=0,
        kernel=window,
        stride=window,
        padding=zeros,
        dilation=ones,
        ceil_mode=False,
    )


@rule("BatchNormalization")
def batch_normalisation(call: Call, values: list[Value]) -> Value:
    """``(x - mean) / sqrt(var + e) gamma + beta`` with stored statistics, per channel."""
    if call.flag("training_mode") or call.outputs > 1:
        raise call.refusal(
            "batch normalisation in training mode: an input's class would depend on the others",
            "export the network in evaluation mode",
        )
    call.only(spatial=1)
    call.pass_over("momentum")
    names = ("weight", "bias", "mean", "variance")
    tensors = {key: call.needed(value, key) for key, value in zip(names, values[1:5], strict=True)}
    x = call.batched(values[0])
    if any(tensor.shape != x.shape[1:2] for tensor in tensors.values()):
        raise call.refusal(f"its numbers are not {x.shape[1]}, one for each channel")
    epsilon = call.number("epsilon", 1e-5)
    return call.add("batch-norm", [x], axis=0, tensors=tensors, epsilon=epsilon)


@rule("Softmax")
def softmax(call: Call, values: list[Value]) -> Value:
    """Along one axis; before operator set 13 over all axes from there on."""
    x = values[0]
    axis = call.get("axis", -1 if call.version >= 13 else 1) % len(x.shape)
    if call.version < 13 and axis < len(x.shape) - 1:
        flat = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
        rows = call.reshaped(x, flat, 0 if flat[0] == 1 else None)
        last = 0 if rows.axis == 0 else 1
        name = call.builder.add("softmax", [rows.name], name=call.name, axis=last)
        return call.reshaped(Value(name, flat, rows.axis), x.shape, x.axis)
    inner = inner_axis(x, axis)
    if inner is None:
        x, inner = call.plain(x), axis
    name = call.builder.add("softmax", [x.name], name=call.name, axis=inner)
    return Value(name, x.shape, x.axis)


def _linear(call: Call, x: Value, weight: Tensor) -> Value:
    """``x W^T``; the axis that is summed over cannot be the batch."""
    last = len(x.shape) - 1
    if x.axis == last:
        x = call.plain(x)
    return call.add("linear", [x], axis=x.axis, tensors={"weight": weight.contiguous()})


def _swapped(call: Call, x: Value) -> Value:
    """The last two axes exchanged."""
    from phalanx.graph.onnx_rules.layout import transposed

    axes = list(range(len(x.shape)))
    axes[-2:] = axes[:-3:-1]
    return transposed(call, x, axes)


def _per_axis(call: Call, key: str, window: Sequence[int]) -> tuple[int, ...]:
    return tuple(call.get(key) or [1] * len(window))


def _padded(
    call: Call, x: Value, window: Sequence[int], filler: float
) -> tuple[Value, tuple[int, ...]]:
    """The input and the padding that is the same on both sides; what is not goes in front.

    ``filler`` NaN: there is no number that such a padding could be filled with.
    """
    n = len(window)
    pads = list(call.get("pads") or [0] * (2 * n))
    automatic = call.get("auto_pad", "NOTSET")
    if automatic not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise call.refusal(f"its auto_pad is {automatic!r}")
    if automatic != "NOTSET" and any(pads):
        raise call.refusal("it has both auto_pad and pads")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        strides, dilations = (_per_axis(call, key, window) for key in ("strides", "dilations"))
        for i, size in enumerate(x.shape[2:]):
            reach = (window[i] - 1) * dilations[i] + 1
            total = max((math.ceil(size / strides[i]) - 1) * strides[i] + reach - size, 0)
            small, large = total // 2, total - total // 2
            upper = automatic == "SAME_UPPER"
            pads[i], pads[n + i] = (small, large) if upper else (large, small)
    before, after = tuple(pads[:n]), tuple(pads[n:])
    if before == after:
        return x, before
    if math.isnan(filler):
        raise call.refusal("padding differs from side to side and is not counted")
    x = call.add("pad", [x], axis=0, before=(0, *before), after=(0, *after), value=filler)
    return x, (0,) * n
