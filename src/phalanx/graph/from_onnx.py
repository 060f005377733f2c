"""Read an ONNX file as a `Graph`, right for any batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phalanx.errors import GraphError, MissingDependencyError
from phalanx.graph.build import Builder
from phalanx.graph.formulas import recognised
from phalanx.graph.ir import Graph, refuse_opaque
from phalanx.graph.onnx_rules import RULES, Call, Value
from phalanx.graph.repairs import NOT_READ, repair_of
from phalanx.runtime.files import read_limited

LARGEST_FILE = 1 << 30
"""Bytes of a file, and of what a compressed one unfolds into."""

MOST_NODES = 100_000

OPSETS = range(7, 29)
"""Operator sets that the rules are written for, and compared with onnxruntime in.

Before 7, sums and products are broadcast along an axis that an attribute names.
"""

FLOAT, DOUBLE = 1, 11
"""Numbers of these types in TensorProto."""

STANDARD = ("", "ai.onnx")
"""Names of the domain whose operators are read."""

_RULES = ("elementwise", "layers", "layout")
_KEPT_INTEGERS = (torch.int64, torch.int32, torch.bool)


def from_onnx(path: Path | str) -> Graph:
    """The graph of an ONNX file (``.onnx`` or ``.onnx.gz``) with one input and one output.

    The first axis is the batch where it is symbolic or one; every operator becomes one on the
    rows of a batch, also where the file moves that axis about (`phalanx.graph.onnx_rules`).

    Raises:
        MissingDependencyError: the package ``onnx`` is not installed.
        GraphError: not an ONNX file, several inputs, an operator that is not read (named), weights
            in other files, or tensors that do not fit.
    """
    return from_onnx_bytes(onnx_bytes(Path(path)), name=str(path))


def from_onnx_bytes(content: bytes, *, name: str = "the ONNX graph") -> Graph:
    """`from_onnx` of what is already in memory."""
    return refuse_opaque(_graph(content, name, opaque=False))


def onnx_outline(path: Path | str) -> Graph:
    """`from_onnx`, to look at: operators that are not read are opaque nodes.

    Raises:
        GraphError: as `from_onnx`, where not even the shape of such an operator's value is known.
    """
    return _graph(onnx_bytes(Path(path)), str(path), opaque=True)


def _graph(content: bytes, name: str, *, opaque: bool) -> Graph:
    onnx = _onnx()
    errors: Any = import_module("google.protobuf.message")

    try:
        model = onnx.load_model_from_string(content)
    except (errors.DecodeError, ValueError, UnicodeDecodeError) as error:
        raise GraphError(f"{name} is not an ONNX file", why=str(error)) from error
    for module in _RULES:
        import_module(f"phalanx.graph.onnx_rules.{module}")
    reader = _Reader(onnx, model, name)
    if opaque:
        reader.shapes = _inferred(onnx, model)
    return reader.read()


def operators() -> list[str]:
    """Names of all ONNX operators that are read."""
    for module in _RULES:
        import_module(f"phalanx.graph.onnx_rules.{module}")
    return sorted({*RULES, "Constant"})


class _Reader:
    """One pass over the nodes of a file."""

    def __init__(self, onnx: Any, model: Any, name: str) -> None:
        self._onnx, self._graph, self._name = onnx, model.graph, name
        self._version = _version(model, name, onnx.defs.onnx_opset_version())
        self._values: dict[str, Value] = {}
        self._type = torch.float32
        self.shapes: Mapping[str, tuple[int, ...]] | None = None
        """Of all values, where what is not read shall be opaque nodes; None: it is refused."""

    def read(self) -> Graph:
        """The whole graph."""
        if len(self._graph.node) > MOST_NODES:
            raise GraphError(f"{self._name} has {len(self._graph.node)} nodes")
        initial = {tensor.name: tensor for tensor in self._graph.initializer}
        if len(initial) < len(self._graph.initializer):
            raise GraphError(f"{self._name} stores two tensors under one name")
        inputs = [entry for entry in self._graph.input if entry.name not in initial]
        if len(inputs) != 1 or len(self._graph.output) != 1:
            raise GraphError(
                f"{self._name} has {len(inputs)} inputs and {len(self._graph.output)} outputs",
                why="a classifier has one of each",
            )
        shape = self._input_shape(inputs[0])
        batch = 0 if len(shape) > 1 and shape[0] == 1 else None
        builder = Builder(shape[1:] if batch == 0 else shape, inputs[0].name or "input", exact=True)
        self._values[inputs[0].name] = Value(builder.input, shape, batch)
        for key, stored in initial.items():
            tensor = self._tensor(stored, key)
            self._values[key] = Value(builder.constant(tensor, name=key), tuple(tensor.shape))
        for index, node in enumerate(self._graph.node):
            self._translate(node, index, builder)
        return self._finished(builder)

    def _finished(self, builder: Builder) -> Graph:
        name = self._graph.output[0].name
        if name not in self._values:
            raise GraphError(f"{self._name} has an output {name!r} that no node computes")
        value = self._values[name]
        # A batch of one on the first axis is no axis of the node, wherever it was before.
        call = Call("output", "Output", {}, 1, self._version, builder)
        if value.axis is not None and value.axis != 0:
            value = call.plain(value)
        if value.axis is None and len(value.shape) > 1 and value.shape[0] == 1:
            value = call.batched(value)
        graph = recognised(builder.graph(value.name))
        if not builder.depends(value.name):
            raise GraphError(f"the output of {self._name} does not depend on its input")
        if 0 in graph[graph.output].shape:
            raise GraphError(f"the output of {self._name} has no numbers: {value.shape}")
        return self._of_one_type(graph)

    def _of_one_type(self, graph: Graph) -> Graph:
        """That of the input."""
        if self._type == torch.float64:
            return graph.to(torch.float64)
        for node in graph:
            for key, tensor in node.tensors.items():
                if tensor.dtype == torch.float64:
                    raise GraphError(
                        f"node {node.name!r} ({node.op}) of {self._name} has a {key} of float64",
                        why="its input is of float32",
                    )
        return graph

    def _translate(self, node: Any, index: int, builder: Builder) -> None:
        name = node.name or next((n for n in node.output if n), "") or f"{node.op_type}-{index}"
        attributes = {entry.name: self._attribute(entry, name) for entry in node.attribute}
        call = Call(name, node.op_type, attributes, len(node.output), self._version, builder)
        try:
            results = self._results(node, call)
        except GraphError as refused:
            if self.shapes is None:
                raise
            results = self._opaque(node, call, refused)
        for key, result in zip(node.output, results, strict=False):
            self._values[key] = result

    def _results(self, node: Any, call: Call) -> list[Value]:
        """What a node computes.

        Raises:
            GraphError: it is not read, or not so.
        """
        if node.domain not in STANDARD:
            raise call.refusal(f"its domain is {node.domain!r}")
        if node.op_type not in (*RULES, "Constant"):
            raise call.refusal(NOT_READ, repair_of(node.op_type))
        self._check(node, call)
        if node.op_type == "Constant":
            given = list(call.attributes.values())
            tensor = given[0] if len(given) == 1 else None
            if not isinstance(tensor, Tensor):
                tensor = torch.tensor(tensor) if isinstance(tensor, int | float | list) else None
            if tensor is None:
                raise call.refusal("it holds no tensor")
            return [Value(call.builder.constant(tensor, name=call.name), tuple(tensor.shape))]
        values = [self._read_value(key, call) if key else None for key in node.input]
        return self._applied(call, values)

    def _opaque(self, node: Any, call: Call, refused: GraphError) -> list[Value]:
        """Nodes that stand for the results of what was refused, as far as their shapes are known.

        Raises:
            GraphError: the refusal, where one is not.
        """
        values = [self._values[key] for key in node.input if key in self._values]
        shapes = [(self.shapes or {}).get(key) for key in node.output]
        if not values or any(shape is None for shape in shapes):
            raise refused
        return [call.opaque(values, shape, refused) for shape in shapes if shape is not None]

    def _check(self, node: Any, call: Call) -> None:
        """What no runtime would run has no meaning here either."""
        if twice := [key for key in node.output if key and key in self._values]:
            raise call.refusal(f"{twice[0]!r} is computed twice")
        try:
            known = self._onnx.defs.get_schema(call.op, self._version)
        except self._onnx.defs.SchemaError:
            raise call.refusal(f"operator set {self._version} does not have it") from None
        if known.deprecated:
            raise call.refusal(f"operator set {self._version} has it no longer")
        if len(call.attributes) < len(node.attribute):
            raise call.refusal("it has an attribute twice")
        for entry in node.attribute:
            if entry.name not in known.attributes:
                raise call.refusal(f"it has no attribute {entry.name!r}")
            if entry.type != int(known.attributes[entry.name].type.value):
                raise call.refusal(f"its attribute {entry.name!r} is of another type")
        if not known.min_input <= len(node.input) <= known.max_input:
            raise call.refusal(f"it has {len(node.input)} inputs")
        single = self._onnx.defs.OpSchema.FormalParameterOption.Single
        for key, declared in zip(node.input, known.inputs, strict=False):
            if not key and declared.option == single:
                raise call.refusal(f"its {declared.name} is left out")

    def _applied(self, call: Call, values: Sequence[Value | None]) -> list[Value]:
        try:
            found = RULES[call.op](call, list(values))
        except GraphError:
            raise
        # A file may leave out inputs and attributes, or give them other types and sizes.
        except (
            TypeError,
            ValueError,
            IndexError,
            AttributeError,
            RuntimeError,
            ArithmeticError,
        ) as e:
            raise call.refusal(f"its inputs or attributes do not fit: {e}") from e
        if unread := sorted(set(call.attributes) - call.read):
            raise call.refusal(f"its attribute {unread[0]!r} is not read", "export without it")
        results = found if isinstance(found, list) else [found]
        if any(result is None for result in results):
            raise call.refusal("an input is left out")
        return results

    def _read_value(self, key: str, call: Call) -> Value:
        if key not in self._values:
            raise GraphError(
                f"node {call.name!r} ({call.op}) reads {key!r}, which no earlier node computes",
                why="nodes come in the order of their computation, without cycles",
            )
        return self._values[key]

    def _input_shape(self, entry: Any) -> tuple[int, ...]:
        kind = entry.type.tensor_type
        if kind.elem_type not in (FLOAT, DOUBLE):
            raise GraphError(
                f"the input {entry.name!r} of {self._name} is not of type float or double",
                repair="export the network in float32",
            )
        self._type = torch.float32 if kind.elem_type == FLOAT else torch.float64
        sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
        if sizes and sizes[0] <= 0:
            sizes[0] = 1  # a symbolic batch
        if not sizes or min(sizes) <= 0:
            raise GraphError(
                f"the input {entry.name!r} of {self._name} has no fixed shape",
                why="only the first axis may be left open",
                repair="export with the input's sizes",
            )
        return tuple(sizes)

    def _tensor(self, stored: Any, name: str) -> Tensor:
        if stored.data_location == self._onnx.TensorProto.EXTERNAL:
            raise GraphError(
                f"tensor {name!r} of {self._name} lies in another file",
                repair="save the model with its weights inside",
            )
        try:
            array = self._onnx.numpy_helper.to_array(stored)
            tensor = torch.from_numpy(array.copy())
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise GraphError(f"tensor {name!r} of {self._name} cannot be read: {error}") from error
        if tensor.is_floating_point():
            return tensor.float() if tensor.dtype != torch.float64 else tensor
        return tensor if tensor.dtype in _KEPT_INTEGERS else tensor.long()

    def _attribute(self, entry: Any, node: str) -> Any:
        kinds = self._onnx.AttributeProto
        if entry.type == kinds.TENSOR:
            return self._tensor(entry.t, node)
        if entry.type in (kinds.INTS, kinds.FLOATS):
            return list(entry.ints or entry.floats)
        if entry.type == kinds.STRING:
            return entry.s.decode("utf-8", "replace")
        return {kinds.INT: entry.i, kinds.FLOAT: entry.f}.get(entry.type)


def _version(model: Any, name: str, newest: int) -> int:
    """Of the operator set that a file's operators are from; ``newest`` is all that onnx knows."""
    found = {entry.version for entry in model.opset_import if entry.domain in STANDARD} or {0}
    if len(found) > 1:
        raise GraphError(f"{name} is of several operator sets: {sorted(found)}")
    if any(function.domain in STANDARD for function in model.functions):
        raise GraphError(f"{name} defines operators of its own under standard names")
    (version,) = found
    if not OPSETS[0] <= version <= min(OPSETS[-1], newest):
        raise GraphError(
            f"{name} is of operator set {version}",
            why=f"{OPSETS[0]} to {min(OPSETS[-1], newest)} are read, others mean other things",
            repair="onnx.version_converter.convert_version(model, 13)",
        )
    return version


def _inferred(onnx: Any, model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes that ONNX's own rules give to values, with a batch of one; of some there is none."""
    ours = onnx.ModelProto()
    ours.CopyFrom(model)
    for entry in ours.graph.input:
        for size in entry.type.tensor_type.shape.dim[:1]:
            if size.dim_value <= 0:
                size.dim_value = 1  # a symbolic batch
    del ours.graph.value_info[:]
    cannot = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError)
    try:
        graph = onnx.shape_inference.infer_shapes(ours, data_prop=True).graph
    except (*cannot, RuntimeError, ValueError):
        return {}
    found = {}
    for entry in [*graph.value_info, *graph.output]:
        kind = entry.type.tensor_type
        if kind.HasField("shape") and all(size.HasField("dim_value") for size in kind.shape.dim):
            found[entry.name] = tuple(size.dim_value for size in kind.shape.dim)
    return found


def onnx_bytes(path: Path) -> bytes:
    """What is in an ONNX file, unfolded.

    Raises:
        GraphError: it cannot be read, or is too large.
    """
    return read_limited(path, LARGEST_FILE, GraphError)


def _onnx() -> Any:
    try:
        return import_module("onnx")
    except ImportError:
        raise MissingDependencyError(
            "ONNX files need the package onnx", repair="pip install 'phalanx[onnx]'"
        ) from None
