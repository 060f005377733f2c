"""ATen operators that move, repeat, choose or add up numbers."""

from __future__ import annotations

import math
from operator import getitem  # what the exporter calls to read one of several results
from typing import Any

import torch
from torch import fx

from phalanx.graph.torch_rules import Call, rule


@rule("view", "reshape", "flatten", "_unsafe_view", "unflatten", "squeeze", "unsqueeze")
def reshape(call: Call) -> str:
    """Whatever leaves the numbers in their order: the shape says it all."""
    a = call.arguments()
    x = a.get("self", a.get("input"))
    if call.is_constant(x):
        moved = call.constant(x).reshape([int(s) for s in call.node.meta["val"].shape])
        return call.builder.constant(moved, name=call.node.name)
    return call.add("reshape", call.value(x), shape=call.shape)


@rule("permute", "transpose", "t", "numpy_T")
def transpose(call: Call) -> str:
    """Axes in another order; the batch stays in front."""
    a = call.arguments()
    axes = list(range(call.rank(a["self"])))
    if call.op == "permute":
        axes = [axis % len(axes) for axis in a["dims"]]
    else:
        i, j = a.get("dim0", -1), a.get("dim1", -2)
        axes[i], axes[j] = axes[j], axes[i]
    if call.is_constant(a["self"]):
        moved = call.constant(a["self"]).permute(axes).contiguous()
        return call.builder.constant(moved, name=call.node.name)
    if axes[0] != 0:
        raise call.refusal("it moves the batch", "keep the batch on the first axis")
    order = tuple(axis - 1 for axis in axes[1:])
    return call.add("transpose", call.value(a["self"]), permutation=order)


@rule("expand")
def expand(call: Call) -> str:
    """Broadcast; a constant becomes the same for every row."""
    x = call.arguments()["self"]
    if call.is_constant(x):
        value = call.constant(x)
        if value.ndim == call.rank(call.node) and len(value) == 1:
            value = value[0]
        return call.builder.constant(value.expand(call.shape).clone(), name=call.node.name)
    return call.add("expand", call.value(call.arguments()["self"]), shape=call.shape)


@rule("cat")
def concat(call: Call) -> str:
    """Along one axis; a constant that is expanded along the batch is one for every row."""
    a = call.arguments()
    axis = call.inner(a["dim"], len(call.node.meta["val"].shape))
    return call.add("concat", *(call.value(part) for part in a["tensors"]), axis=axis)


@rule("stack")
def stack(call: Call) -> str:
    """Along a new axis."""
    a = call.arguments()
    axis = call.inner(a["dim"], len(call.node.meta["val"].shape))
    parts = []
    for part in a["tensors"]:
        shape = call.builder[call.value(part)].shape
        parts.append(call.add("reshape", call.value(part), shape=(*shape[:axis], 1, *shape[axis:])))
    return call.add("concat", *parts, axis=axis)


@rule("slice")
def cut(call: Call) -> str:
    """A range of one axis; all of the batch."""
    a = call.arguments()
    axis = a["dim"] % call.rank(a["self"])
    start, end, step = a["start"], a["end"], a["step"]
    if axis == 0:
        if start in (None, 0) and step == 1 and not (isinstance(end, int) and end < 1 << 31):
            return call.value(a["self"])
        raise call.refusal("it chooses rows of the batch", "an input's class must be its own")
    size = call.builder[call.value(a["self"])].shape[axis - 1]
    return _taken(call, call.value(a["self"]), axis - 1, range(size)[slice(start, end, step)])


@rule("select")
def select(call: Call) -> str:
    """One entry, whose axis vanishes."""
    a = call.arguments()
    axis = call.inner(a["dim"], call.rank(a["self"]))
    shape = call.builder[call.value(a["self"])].shape
    one = _taken(call, call.value(a["self"]), axis, [a["index"] % shape[axis]])
    return call.add("reshape", one, shape=(*shape[:axis], *shape[axis + 1 :]))


@rule("index_select")
def index_select(call: Call) -> str:
    """Constant indices."""
    a = call.arguments()
    axis = call.inner(a["dim"], call.rank(a["self"]))
    return _taken(call, call.value(a["self"]), axis, call.constant(a["index"]).tolist())


@rule("chunk", "split", "split_with_sizes")
def split(call: Call) -> list[str]:
    """Into parts, by the sizes the export found."""
    a = call.arguments()
    axis = call.inner(a["dim"], call.rank(a["self"]))
    parts, start = [], 0
    for part in call.node.meta["val"]:
        size = part.shape[axis + 1]
        parts.append(_taken(call, call.value(a["self"]), axis, range(start, start + size)))
        start += size
    return parts


@rule(getitem.__name__)
def item(call: Call) -> Any:
    """One of several results."""
    source, index = call.node.args
    if not isinstance(source, fx.Node) or not isinstance(index, int):
        raise call.refusal("it reads no result of another node")
    return call.result(source)[index]


@rule("pad", "constant_pad_nd")
def pad(call: Call) -> str:
    """With one number; torch counts the axes from the last."""
    a = call.arguments()
    if a.get("mode", "constant") != "constant":
        raise call.refusal(f"mode {a['mode']!r}", "pad with a constant")
    rank = call.rank(a["self"]) - 1
    sides = list(a["pad"])
    if len(sides) > 2 * rank:
        raise call.refusal("it pads the batch")
    sides += [0] * (2 * rank - len(sides))
    return call.add(
        "pad",
        call.value(a["self"]),
        before=tuple(sides[0::2])[::-1],
        after=tuple(sides[1::2])[::-1],
        value=float(a.get("value") or 0.0),
    )


@rule("upsample_nearest2d", "upsample_nearest1d")
def upsample(call: Call) -> str:
    """By whole factors."""
    x = call.value(call.arguments()["input"])
    for axis, (old, new) in enumerate(zip(call.builder[x].shape, call.shape, strict=True)):
        if new % old:
            raise call.refusal(f"it scales {old} to {new}", "scale by whole numbers")
        if new > old:
            x = _taken(call, x, axis, [i // (new // old) for i in range(new)])
    return x


@rule("sum", "mean")
def reduce(call: Call) -> str:
    """Over axes other than the batch."""
    a = call.arguments()
    x, dims = call.value(a["self"]), a.get("dim")
    if not dims and dims != 0:
        raise call.refusal("it reduces over the batch", "name the axes")
    dims = [dims] if isinstance(dims, int) else dims
    axes = tuple(sorted(call.inner(dim, call.rank(a["self"])) for dim in dims))
    count = math.prod(call.builder[x].shape[axis] for axis in axes)
    x = call.add("reduce-sum", x, axes=axes)
    if call.op == "mean":
        x = call.divided(x, count)
    return x if a.get("keepdim") else call.add("reshape", x, shape=call.shape)


def _taken(call: Call, x: str, axis: int, indices: Any) -> str:
    indices = list(indices)
    if indices == list(range(call.builder[x].shape[axis])):
        return x
    return call.add("take", x, axis=axis, tensors={"indices": torch.tensor(indices)})
