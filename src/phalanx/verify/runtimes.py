"""Where an input is run again before its answer counts."""

from __future__ import annotations

from importlib import import_module
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from phalanx.errors import MissingDependencyError, ModelError
from phalanx.graph.ir import Graph
from phalanx.graph.run import run

TYPES = {"tensor(float)": torch.float32, "tensor(double)": torch.float64}


class Runtime(Protocol):
    """Runs one input after the other."""

    name: str
    dtype: torch.dtype

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Outputs ``(m,)`` of one flat input ``(n,)``, each in its own arithmetic.

        A counterexample is one in all of them.
        """


class GraphRuntime:
    """The network's own graph, in its own type and in float64."""

    name = "graph"

    def __init__(self, graph: Graph) -> None:
        self.dtype = type_of(graph)
        self._graphs = {kind: graph.to(kind) for kind in (self.dtype, torch.float64)}

    def __call__(self, x: Tensor) -> list[Tensor]:
        """In both types."""
        with torch.no_grad():
            return [
                run(graph, x.to(kind).reshape(1, *graph.input.shape)).flatten().double()
                for kind, graph in self._graphs.items()
            ]


class ModuleRuntime:
    """The module itself in its own type, and its graph in float64."""

    name = "torch"

    def __init__(self, module: nn.Module, graph: Graph) -> None:
        kinds = {p.dtype for p in module.parameters() if p.is_floating_point()}
        self.dtype = torch.float64 if kinds == {torch.float64} else torch.float32
        self._module, self._graph = module, graph.to(torch.float64)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """In both."""
        shaped = x.reshape(1, *self._graph.input.shape)
        with torch.no_grad():
            own = self._module(shaped.to(self.dtype))
            return [own.flatten().double(), run(self._graph, shaped.double()).flatten()]


class OnnxRuntime:
    """onnxruntime on one thread of the CPU, started when it is first asked; the graph in float64.

    Args:
        content: of the ONNX file, unfolded.
        graph: what was read from it.
        name: for messages.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
    """

    name = "onnxruntime"

    def __init__(self, content: bytes, graph: Graph, name: str) -> None:
        from importlib.util import find_spec

        if find_spec("onnxruntime") is None:
            raise MissingDependencyError(
                "counterexamples are repeated in onnxruntime", repair="pip install 'phalanx[onnx]'"
            )
        self._content, self._graph, self._source = content, graph, name
        self._session: Any = None
        self._wide: Graph | None = None
        self.dtype = type_of(graph)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """As the file has it, and in float64: single precision alone may find what is not there.

        Raises:
            ModelError: onnxruntime does not take the file, or fails to run it.
        """
        session = self._started()
        entry = session.get_inputs()[0]
        shape = [size if isinstance(size, int) and size > 0 else 1 for size in entry.shape]
        if entry.type not in TYPES or prod(shape) != x.numel():
            raise ModelError(f"{self._source} reads {entry.type} of shape {entry.shape}")
        given = x.to(TYPES[entry.type]).reshape(shape).numpy()
        try:
            (answer,) = session.run([session.get_outputs()[0].name], {entry.name: given})
        except _own_errors() as error:
            raise ModelError(f"onnxruntime fails to run {self._source}: {error}") from error
        self._wide = self._wide or self._graph.to(torch.float64)
        with torch.no_grad():
            wide = run(self._wide, x.double().reshape(1, *self._graph.input.shape)).flatten()
        return [torch.from_numpy(answer).flatten().double(), wide]

    def _started(self) -> Any:
        if self._session is None:
            runtime = import_module("onnxruntime")
            options = runtime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            try:
                self._session = runtime.InferenceSession(
                    self._content, options, providers=["CPUExecutionProvider"]
                )
            except _own_errors() as error:
                raise ModelError(f"onnxruntime refuses {self._source}: {error}") from error
        return self._session


def _own_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises besides Python's own: each is an `Exception` and nothing else."""
    every = vars(import_module("onnxruntime.capi.onnxruntime_pybind11_state")).values()
    return tuple(e for e in every if isinstance(e, type) and issubclass(e, Exception))


def type_of(graph: Graph) -> torch.dtype:
    """The widest floating type of a graph's constants; float32 where it has none."""
    found = {t.dtype for node in graph for t in node.tensors.values() if t.is_floating_point()}
    return torch.float64 if torch.float64 in found else torch.float32
