"""ONNX operators that move, repeat, choose or add up numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phalanx.graph.onnx_rules import Call, Value, inner_axis, rule
from phalanx.graph.onnx_rules.elementwise import same

LARGEST_FOLDED = 1 << 24
"""Numbers that ConstantOfShape, Expand or Tile of a constant may make."""


@rule("Identity")
def identity(call: Call, values: list[Value]) -> Value:
    """The same."""
    return values[0]


@rule("Dropout")
def dropout(call: Call, values: list[Value]) -> Value:
    """Nothing, in evaluation."""
    call.pass_over("ratio", "seed")
    training = len(values) > 2 and values[2] is not None
    if training and bool(call.needed(values[2], "training_mode").any()):
        raise call.refusal(
            "dropout in training mode makes the network a random function",
            "export the network in evaluation mode",
        )
    return values[0]


@rule("Cast")
def cast(call: Call, values: list[Value]) -> Value:
    """Between types of constants; of values only what keeps them real numbers."""
    onnx: Any = import_module("onnx")

    call.pass_over("saturate", "round_mode")  # for types that are not read
    floats = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.DOUBLE: torch.float64}
    to = int(call.get("to"))
    found = call.constant(values[0])
    if found is None:
        if to not in floats:
            raise call.refusal("it casts what depends on the input to another type")
        return values[0]
    kinds = {
        **floats,
        onnx.TensorProto.INT64: torch.int64,
        onnx.TensorProto.INT32: torch.int32,
        onnx.TensorProto.BOOL: torch.bool,
    }
    if to not in kinds:
        raise call.refusal(f"it casts to type {onnx.TensorProto.DataType.Name(to)}")
    return _folded(call, found.to(kinds[to]))


@rule("Shape")
def shape_of(call: Call, values: list[Value]) -> Value:
    """The sizes, the batch being one."""
    sizes = torch.tensor(values[0].shape, dtype=torch.int64)
    return _folded(call, sizes[call.get("start", 0) : call.get("end")])


@rule("ConstantOfShape")
def constant_of_shape(call: Call, values: list[Value]) -> Value:
    """One number everywhere."""
    sizes = _whole(call, values[0], "shape")
    if math.prod(sizes) > LARGEST_FOLDED or min(sizes, default=0) < 0:
        raise call.refusal(f"it makes a tensor of shape {tuple(sizes)}")
    value: Tensor = call.get("value", torch.zeros(1))
    return _folded(call, torch.full(sizes, value.flatten()[0].item(), dtype=value.dtype))


@rule("Reshape")
def reshape(call: Call, values: list[Value]) -> Value:
    """0 keeps a size, -1 follows from the others; the batch stays where it is a one."""
    x, sizes = values[0], _whole(call, values[1], "shape")
    if not call.flag("allowzero"):
        if any(size == 0 and i >= len(x.shape) for i, size in enumerate(sizes)):
            raise call.refusal("its shape keeps an axis that is not there")
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    if -1 in sizes:
        known = math.prod(size for size in sizes if size != -1)
        if sizes.count(-1) > 1 or not known or math.prod(x.shape) % known:
            raise call.refusal(f"shape {x.shape} cannot become {tuple(sizes)}")
        sizes[sizes.index(-1)] = math.prod(x.shape) // known
    return call.reshaped(x, sizes, 0 if sizes and sizes[0] == 1 else None)


@rule("Flatten")
def flatten(call: Call, values: list[Value]) -> Value:
    """Two axes: all before ``axis``, and the rest."""
    x, axis = values[0], int(call.get("axis", 1))
    axis = axis + len(x.shape) if axis < 0 else axis
    sizes = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    places = [place for place in (0, 1) if sizes[place] == 1]
    return call.reshaped(x, sizes, places[0] if places else None)


@rule("Unsqueeze", "Squeeze")
def squeeze(call: Call, values: list[Value]) -> Value:
    """Axes of size one put in or taken out; they are an input from operator set 13 on."""
    x = values[0]
    given = values[1] if len(values) > 1 else None
    axes = call.get("axes") if given is None else _whole(call, given, "axes")
    # Follow the batch: the same moves on a list that says which axis it is.
    marks = [i == x.axis for i in range(len(x.shape))]
    sizes = list(x.shape)
    if call.op == "Unsqueeze":
        for axis in sorted(a % (len(sizes) + len(axes)) for a in axes):
            sizes.insert(axis, 1)
            marks.insert(axis, False)
    else:
        ones = [i for i, size in enumerate(sizes) if size == 1]
        for axis in sorted(ones if axes is None else [a % len(sizes) for a in axes], reverse=True):
            del sizes[axis], marks[axis]
    return call.reshaped(x, sizes, marks.index(True) if True in marks else None)


@rule("Transpose")
def transpose(call: Call, values: list[Value]) -> Value:
    """Without a permutation the axes are reversed."""
    x = values[0]
    return transposed(call, x, call.get("perm") or range(len(x.shape))[::-1])


def transposed(call: Call, x: Value, axes: Sequence[int]) -> Value:
    """Axes in another order, the batch's among them."""
    shape = tuple(x.shape[axis] for axis in axes)
    inner = [place for axis in axes if (place := inner_axis(x, axis)) is not None]
    batch = None if x.axis is None else list(axes).index(x.axis)
    if inner == sorted(inner):
        return Value(x.name, shape, batch)
    return call.add("transpose", [x], shape, axis=batch, permutation=tuple(inner))


@rule("Concat")
def concat(call: Call, values: list[Value]) -> Value:
    """Along one axis; constants among them are the same for every input."""
    variable = [value for value in values if call.constant(value) is None]
    places = {value.axis for value in variable}
    axis = int(call.get("axis")) % len(values[0].shape)
    if len(places) != 1 or axis in places:
        values, batch = [call.plain(value) for value in values], None
    else:
        batch = places.pop()
        if batch is not None:
            values = [v if v in variable else call.batched(v, batch) for v in values]
    inner = axis if batch is None else axis - (axis > batch)
    shape = list(values[0].shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    name = call.builder.add("concat", [v.name for v in values], name=call.name, axis=inner)
    return Value(name, tuple(shape), batch if variable else None)


@rule("Slice")
def cut(call: Call, values: list[Value]) -> Value:
    """Ranges are attributes up to operator set 9, inputs from 10 on."""
    x = values[0]
    if call.version < 10:
        starts, ends = call.get("starts"), call.get("ends")
        axes, steps = call.get("axes"), None
    else:
        given = [*values[1:], None, None]
        starts, ends = _whole(call, given[0], "start"), _whole(call, given[1], "end")
        axes, steps = (None if v is None else _whole(call, v, "axis") for v in given[2:4])
    places = axes or range(len(starts))
    if not len(places) == len(starts) == len(ends):
        raise call.refusal("its starts, ends and axes are of different numbers")
    for i, axis in enumerate(places):
        indices = range(x.shape[axis])[slice(*_ends(starts[i], ends[i], steps[i] if steps else 1))]
        x = taken(call, x, axis, indices)
    return x


def _ends(start: int, end: int, step: int) -> tuple[int, int | None, int]:
    """ONNX ends are clamped; below zero they count from the end, as in Python."""
    return start, None if step < 0 and end < -(1 << 31) + 1 else end, step


@rule("Gather")
def gather(call: Call, values: list[Value]) -> Value:
    """Constant indices; their axes take the place of the one they choose from."""
    x, axis = values[0], int(call.get("axis", 0)) % len(values[0].shape)
    indices = call.needed(values[1], "indices").long()
    size = x.shape[axis]
    if indices.numel() and not (-size <= int(indices.min()) and int(indices.max()) < size):
        raise call.refusal(f"it reads outside of an axis of size {size}")
    indices = torch.where(indices < 0, indices + size, indices)
    found = taken(call, x, axis, indices.flatten().tolist())
    shape = (*found.shape[:axis], *indices.shape, *found.shape[axis + 1 :])
    batch = found.axis
    if batch is not None and batch > axis:
        batch += indices.ndim - 1
    return call.reshaped(found, shape, batch)


@rule("Split")
def split(call: Call, values: list[Value]) -> list[Value]:
    """Into the given sizes, or into as many equal parts as there are outputs."""
    x, axis = values[0], int(call.get("axis", 0))
    axis %= len(x.shape)
    size = x.shape[axis]
    call.only(num_outputs=call.outputs)
    parts = call.get("split")
    if len(values) > 1 and values[1] is not None:
        parts = _whole(call, values[1], "sizes")
    if parts is None and call.version >= 18 and "num_outputs" not in call.attributes:
        raise call.refusal("it says neither sizes nor a number of parts")
    if parts is None:
        part = math.ceil(size / call.outputs)
        parts = [min(part, size - i * part) for i in range(call.outputs)]
    if min(parts, default=0) < 0 or sum(parts) != size:
        raise call.refusal(f"parts of sizes {parts} of {size}")
    ends = [sum(parts[: i + 1]) for i in range(len(parts))]
    return [
        taken(call, x, axis, range(end - part, end)) for part, end in zip(parts, ends, strict=True)
    ]


@rule("Upsample", "Resize")
def upsample(call: Call, values: list[Value]) -> Value:
    """Nearest neighbour, by whole factors: every entry repeated."""
    if call.get("mode", "nearest") != "nearest":
        raise call.refusal(f"mode {call.get('mode')!r}", "use nearest neighbour")
    if call.op == "Resize" and call.version >= 11:
        _check_nearest(call)
    x = values[0]
    place = 2 if call.op == "Resize" and call.version >= 11 else 1
    scales = call.get("scales") or _floats(call, values[place])
    if call.op == "Resize" and len(values) > 3 and values[3] is not None:
        sizes = _whole(call, values[3], "sizes")
        scales = [new / old for new, old in zip(sizes, x.shape, strict=True)]
    for axis, factor in enumerate(scales or ()):
        if factor < 1 or factor != int(factor):
            raise call.refusal(f"it scales by {factor:g}", "scale by whole numbers")
        if factor > 1:
            wanted = range(x.shape[axis] * int(factor))
            x = taken(call, x, axis, wanted, partial(torch.floor_divide, other=int(factor)))
    return x


_REPEATING = {
    "half_pixel": ("round_prefer_floor", "round_prefer_ceil"),
    "pytorch_half_pixel": ("round_prefer_floor", "round_prefer_ceil"),
    "asymmetric": ("floor",),
}
"""By coordinates, the roundings under which a whole factor repeats every entry."""


def _check_nearest(call: Call) -> None:
    where = call.get("coordinate_transformation_mode", "half_pixel")
    rounding = call.get("nearest_mode", "round_prefer_floor")
    if rounding not in _REPEATING.get(where, ()):
        raise call.refusal(f"coordinates {where!r} rounded by {rounding!r}")
    call.only(antialias=0, keep_aspect_ratio_policy="stretch", axes=None)
    call.pass_over("cubic_coeff_a", "exclude_outside", "extrapolation_value")  # of other modes


_PADDED: dict[str, Callable[..., Tensor]] = {
    "edge": lambda i, last: i.clamp(0, last),
    "reflect": lambda i, last: last - (last - i.abs()).abs(),
}


@rule("Pad")
def pad(call: Call, values: list[Value]) -> Value:
    """Around the tensor; a mirrored or repeated edge is a choice of entries."""
    x, mode, rank = values[0], call.get("mode", "constant"), len(values[0].shape)
    if mode not in ("constant", *_PADDED):
        raise call.refusal(f"mode {mode!r}")
    if len(values) > 3 and values[3] is not None:
        raise call.refusal(
            "its padding names axes", "pad every axis, with zeros where there is none"
        )
    given = values[1] if len(values) > 1 else None
    pads = call.get("pads") if given is None else _whole(call, given, "padding")
    filler = call.get("value", 0.0)
    if len(values) > 2 and values[2] is not None:
        filler = call.needed(values[2], "value").item()
    if x.axis is not None and (pads[x.axis] or pads[rank + x.axis]):
        x = call.plain(x)
    if mode in _PADDED:
        for axis in range(rank):
            last = x.shape[axis] - 1
            wanted = range(-pads[axis], last + 1 + pads[rank + axis])
            x = taken(call, x, axis, wanted, partial(_PADDED[mode], last=last))
        return x
    inner = [axis for axis in range(rank) if axis != x.axis]
    return call.add(
        "pad",
        [x],
        axis=x.axis,
        value=float(filler),
        before=tuple(pads[a] for a in inner),
        after=tuple(pads[rank + a] for a in inner),
    )


@rule("ReduceSum", "ReduceMean")
def reduce(call: Call, values: list[Value]) -> Value:
    """Sum or mean over axes; they are an input of ReduceSum from operator set 13 on."""
    x = values[0]
    given = values[1] if len(values) > 1 else None
    axes = call.get("axes") if given is None else _whole(call, given, "axes")
    whole, keep = call.flag("noop_with_empty_axes"), call.flag("keepdims", 1)
    if whole and not axes:
        return x
    axes = sorted({a % len(x.shape) for a in axes or range(len(x.shape))})
    inner = tuple(place for axis in axes if (place := inner_axis(x, axis)) is not None)
    shape = tuple(1 if i in axes else size for i, size in enumerate(x.shape))
    count = math.prod(x.shape[axis] for axis in axes)
    if count > 1 << 24:
        raise call.refusal(f"single precision may not hold its number of terms, {count}")
    x = call.add("reduce-sum", [x], shape, axis=x.axis, axes=inner)
    if call.op == "ReduceMean":
        x = same(call, "quotient", x, tensors={"divisor": torch.tensor(float(count))})
    if keep:
        return x
    kept = [i for i in range(len(shape)) if i not in axes]
    batch = kept.index(x.axis) if x.axis in kept else None
    return call.reshaped(x, [shape[i] for i in kept], batch)


@rule("Expand")
def expand(call: Call, values: list[Value]) -> Value:
    """Broadcast against a shape."""
    x, wanted = values[0], _whole(call, values[1], "shape")
    shape = np.broadcast_shapes(x.shape, tuple(wanted))
    if math.prod(shape) > LARGEST_FOLDED:
        raise call.refusal(f"it makes a tensor of shape {tuple(shape)}")
    same_batch = x.axis is not None and len(shape) == len(x.shape) and shape[x.axis] == 1
    x = x if same_batch else call.plain(x)
    inner = tuple(size for i, size in enumerate(shape) if i != x.axis)
    name = call.builder.add("expand", [x.name], name=call.name, shape=inner)
    return Value(name, tuple(shape), x.axis)


def taken(
    call: Call,
    x: Value,
    axis: int,
    wanted: Sequence[int],
    entry: Callable[[Tensor], Tensor] | None = None,
) -> Value:
    """Entries of one axis, or those that wanted numbers stand for; all in order: the value."""
    axis %= len(x.shape)
    size = x.shape[axis]
    if len(wanted) > LARGEST_FOLDED:  # a file's few bytes can ask for any number
        raise call.refusal(f"it takes {len(wanted)} entries")
    if isinstance(wanted, range):
        indices = torch.arange(len(wanted)) * wanted.step + wanted.start
    else:
        indices = torch.tensor(wanted, dtype=torch.int64)
    indices = indices if entry is None else entry(indices)
    if bool(((indices < 0) | (indices >= size)).any()):
        raise call.refusal(f"it takes entries that an axis of {size} does not have")
    if torch.equal(indices, torch.arange(size)):
        return x
    place = inner_axis(x, axis)
    if place is None:
        x = call.plain(x)
        place = axis
    tensors = {"indices": indices}
    name = call.builder.add("take", [x.name], name=call.name, tensors=tensors, axis=place)
    shape = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
    return Value(name, shape, x.axis)


def _folded(call: Call, tensor: Tensor) -> Value:
    return Value(call.builder.constant(tensor, name=call.name), tuple(tensor.shape))


def _whole(call: Call, value: Value | None, what: str) -> list[int]:
    return [int(n) for n in call.needed(value, what).flatten().tolist()]


def _floats(call: Call, value: Value | None) -> list[float] | None:
    if value is None:
        return None
    return [float(n) for n in call.needed(value, "scale").flatten().tolist()]
