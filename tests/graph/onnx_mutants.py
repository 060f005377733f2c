"""ONNX files with small mistakes: they are refused, or read as onnxruntime reads them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import torch
from graph_helpers import gap, inputs, reference
from onnx import numpy_helper
from onnx_cases import CASES

from phalanx.errors import GraphError
from phalanx.graph.from_onnx import from_onnx_bytes
from phalanx.graph.onnx_rules import RULES
from phalanx.graph.run import run
from phalanx.graph.simplify import simplify

REFUSED = "refused"
"""With a typed error."""
SAME = "read as onnxruntime reads it"
ALONE = "read, onnxruntime refuses it"
DIFFERENT = "read otherwise than onnxruntime reads it"
WILD = "read, with weights that are no numbers"
"""`prepare` refuses it, and so does every method."""
LARGEST = 100_000
"""Numbers of any value of a network that is run."""

Random = np.random.Generator
Change = Callable[[onnx.ModelProto, Random], None]


def one_of(draw: Random, things):
    """Any of them; of nothing, IndexError."""
    return things[int(draw.integers(len(things)))] if len(things) else things[0]


def _names(model: onnx.ModelProto) -> list[str]:
    graph = model.graph
    outputs = [name for node in graph.node for name in node.output]
    return [*outputs, *(one.name for one in [*graph.input, *graph.initializer]), "absent", ""]


def _drop(model: onnx.ModelProto, draw: Random) -> None:
    model.graph.node.remove(one_of(draw, model.graph.node))


def _repeat(model: onnx.ModelProto, draw: Random) -> None:
    model.graph.node.append(one_of(draw, model.graph.node))


def _reorder(model: onnx.ModelProto, draw: Random) -> None:
    nodes = list(model.graph.node)
    draw.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _rewire(model: onnx.ModelProto, draw: Random) -> None:
    node = one_of(draw, model.graph.node)
    names = one_of(draw, [node.input, node.output])
    names[int(draw.integers(len(names)))] = one_of(draw, _names(model))


def _operator(model: onnx.ModelProto, draw: Random) -> None:
    one_of(draw, model.graph.node).op_type = one_of(draw, [*sorted(RULES), "Relu ", "If"])


def _attribute(model: onnx.ModelProto, draw: Random) -> None:
    node = one_of(draw, model.graph.node)
    attribute = one_of(draw, node.attribute)
    match int(draw.integers(5)):
        case 0:
            node.attribute.remove(attribute)
        case 1:
            attribute.name = one_of(draw, ["axis", "axes", "perm", "pads", "group", "alpha"])
        case 2:
            attribute.f = one_of(draw, [float("nan"), float("inf"), -1.0, 0.0, 1e38])
        case 3:
            attribute.i = one_of(draw, [-1, 0, 1, 2, 3, 1 << 31, -(1 << 62)])
        case _:
            if attribute.ints:
                at = int(draw.integers(len(attribute.ints)))
                attribute.ints[at] = one_of(draw, [-2, -1, 0, 1, 2, 3, 1 << 40])


def _weights(model: onnx.ModelProto, draw: Random) -> None:
    tensor = one_of(draw, model.graph.initializer)
    value = numpy_helper.to_array(tensor).copy()
    match int(draw.integers(4)):
        case 0:
            dims = tensor.dims
            dims[int(draw.integers(len(dims)))] = one_of(draw, [-1, 0, 1, 2, 5, 1 << 40])
            return
        case 1:
            value = value.astype(one_of(draw, [np.float64, np.float32, np.int64, np.int32]))
        case 2:
            value = value.reshape(-1) if draw.integers(2) else value[None]
        case _:
            worst = [float("nan"), float("inf"), 0, -1, 3e38]
            value.reshape(-1)[int(draw.integers(value.size))] = one_of(
                draw, worst if value.dtype.kind == "f" else [0, -1, -2, 7, 1 << 40]
            )
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def _entry(model: onnx.ModelProto, draw: Random) -> None:
    kind = model.graph.input[0].type.tensor_type
    if draw.integers(4) == 0:
        kind.elem_type = int(draw.integers(20))
    else:
        one_of(draw, kind.shape.dim).dim_value = one_of(draw, [-1, 0, 1, 2, 7, 1 << 40])


def _version(model: onnx.ModelProto, draw: Random) -> None:
    model.opset_import[0].version = int(one_of(draw, [-1, 0, 1, 6, 7, 9, 11, 13, 18, 21, 999]))


def _domain(model: onnx.ModelProto, draw: Random) -> None:
    one_of(draw, model.graph.node).domain = one_of(draw, ["ai.onnx", "com.microsoft", "x"])


CHANGES: tuple[Change, ...] = (
    _drop, _repeat, _reorder, _rewire, _operator, _attribute, _weights, _entry, _version, _domain,
)  # fmt: skip


def broken(file: bytes, draw: Random) -> bytes:
    """The file with one to three mistakes, of its bytes or of what they say."""
    if draw.integers(3) == 0:
        content = bytearray(file)
        for place in draw.integers(len(content), size=draw.integers(1, 4)):
            content[place] = draw.integers(256)
        return bytes(content)
    model = onnx.load_model_from_string(file)
    for _ in range(int(draw.integers(1, 4))):
        try:
            one_of(draw, CHANGES)(model, draw)
        except (IndexError, ValueError, OverflowError, TypeError):
            continue  # there is nothing to change so, or no file can say it
    return model.SerializeToString()


def outcome(file: bytes) -> str:
    """What becomes of a file; any error but a typed one passes through."""
    try:
        graph = from_onnx_bytes(file)
    except GraphError:
        return REFUSED
    if max(math.prod(node.shape) for node in graph) > LARGEST:
        return ALONE
    tensors = [t for node in graph for t in node.tensors.values() if t.is_floating_point()]
    if not all(bool(t.isfinite().all()) for t in tensors):
        return WILD
    x = inputs(graph.input.shape)
    found = run(graph, x)
    try:
        expected = reference(file, x)
    except Exception:  # noqa: BLE001 - onnxruntime's errors have no common kind
        return ALONE
    same = found.flatten(1).shape == expected.shape and all(
        _alike(ours, expected) for ours in (found, run(simplify(graph), x))
    )
    return SAME if same else DIFFERENT


def _alike(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """To 1e-4 of the largest finite value; what is no number, or infinite, in the same places."""
    found = found.flatten(1).to(expected.dtype)
    wild = ~expected.isfinite()
    if not torch.equal(wild, ~found.isfinite()):
        return False
    return gap(found.masked_fill(wild, 0.0), expected.masked_fill(wild, 0.0)) < 1e-4


def trial(number: int) -> tuple[str, str]:
    """The case that a number stands for and what became of it."""
    draw = np.random.default_rng(number)
    name = one_of(draw, sorted(CASES))
    return name, outcome(broken(CASES[name][1], draw))
