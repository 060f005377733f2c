"""ONNX models of one operator, and what onnxruntime makes of a file."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

ROWS = 3


def model(nodes, shape, constants=None, *, version=13, batch=1, outputs=("y",)):
    """Bytes of a graph from x (batch, *shape) to y; constants become initialisers.

    Of the operator set ``version``, or of several.
    """
    first = [] if batch is None else [batch]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [*first, *shape])
    ys = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "net", [x], ys, stored)
    versions = version if isinstance(version, tuple) else (version,)
    opset = [helper.make_opsetid("", number) for number in versions]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def node(op, inputs, output="y", **attributes):
    """Names stand one behind the other; ``-`` is an input that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, output.split(), **attributes)


def at_version(file: bytes, version: int) -> bytes:
    """The same nodes, said to be of another operator set."""
    found = onnx.load_model_from_string(file)
    found.opset_import[0].version = version
    return found.SerializeToString()


def twice(node, **attributes):
    """A node with attributes that it has already."""
    node.attribute.extend(helper.make_attribute(*pair) for pair in attributes.items())
    return node


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def reference(file: bytes, x: torch.Tensor) -> torch.Tensor:
    """What onnxruntime computes for each row on its own, flattened."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in entry.shape]
    rows = [session.run(None, {entry.name: row.reshape(shape).numpy()})[0] for row in x]
    return torch.from_numpy(np.stack([row.reshape(-1) for row in rows]))


def inputs(shape, rows=ROWS) -> torch.Tensor:
    return torch.rand(rows, *shape, generator=torch.Generator().manual_seed(0)) + 0.1


def gap(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, in units of the largest value where that is above one."""
    assert found.flatten(1).shape == expected.shape
    scale = max(1.0, float(expected.abs().max()))
    return float((found.flatten(1) - expected).abs().max()) / scale


def onnx_is_valid(file: bytes) -> None:
    onnx.checker.check_model(onnx.load_model_from_string(file))
