"""`Network`: what verification asks of a network: its graph, its sizes, and answers to repeat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from phalanx.bounds.prepare import check_finite
from phalanx.errors import DataError, MissingDependencyError, ParameterError
from phalanx.graph.ir import CONSTANT, Graph, Node
from phalanx.graph.run import run
from phalanx.specs.property import Property
from phalanx.specs.vnnlib.query import Query
from phalanx.verify.runtimes import GraphRuntime, ModuleRuntime, OnnxRuntime, Runtime, type_of

if TYPE_CHECKING:
    from phalanx.ensembles.ensemble import Ensemble
    from phalanx.models.model import Model

ROWS = 4096
"""Inputs of a pass at most; fewer of a wide network."""

PASS = 1 << 24
"""Numbers of a pass at most."""

LINEAR = ("mean", "softmax", "weighted")
"""Reducers that add up what members answer."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network to be verified, on flat inputs.

    Raises:
        NonFiniteError: a weight is NaN or infinite.

    Attributes:
        graph: in the type that the network computes in; inputs in the property's units.
        runtime: where a counterexample is repeated.
        name: for messages.
    """

    graph: Graph
    runtime: Runtime
    name: str = "the network"

    def __post_init__(self) -> None:
        for node in self.graph:
            if node.op != CONSTANT:  # an infinite constant may be folded away
                check_finite(node)

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of inputs and outputs."""
        return prod(self.graph.input.shape), prod(self.graph[self.graph.output].shape)

    @property
    def dtype(self) -> torch.dtype:
        """The type that the network computes in."""
        return self.runtime.dtype

    def check(self, prop: Property | Query) -> None:
        """Refuse a property of another network.

        Raises:
            DataError: its inputs or outputs are of another number, or a query's of other shapes.
        """
        if isinstance(prop, Query):
            prop.require_shapes(self.graph.input.shape, self.graph[self.graph.output].shape)
            prop = prop.property
        if prop.sizes != self.sizes:
            raise DataError(
                "a property of {} inputs and {} outputs".format(*prop.sizes),
                why="{} has {} and {}".format(self.name, *self.sizes),
            )

    def answers(self, x: Tensor) -> Tensor:
        """Outputs ``(B, m)`` of flat inputs ``(B, n)``, by the graph, in pieces.

        Differentiable; in the type of the graph.
        """
        widest = max(prod(node.shape) for node in self.graph)
        rows = max(1, min(ROWS, PASS // widest))
        shape, x = self.graph.input.shape, x.to(type_of(self.graph))
        found = [run(self.graph, part.reshape(-1, *shape)).flatten(1) for part in x.split(rows)]
        return torch.cat(found)


def network_of(model: Network | Graph | Model | Ensemble | str | Path) -> Network:
    """The network in an ONNX file, in a graph, in a model or in an ensemble.

    A counterexample in an ONNX file is repeated in onnxruntime where it is installed; in a model or
    an ensemble by the module itself and by its graph in float64; in a graph in its own type and in
    float64. An ensemble under mean, weighted or softmax is one network of its scores.

    Raises:
        GraphError, ModelError: the network cannot be read. ParameterError: no network at all, or a
            reducer that is none.
    """
    if isinstance(model, Network):
        return model
    if isinstance(model, str | Path):
        return _of_file(model)
    if isinstance(model, Graph):
        model = model.to(type_of(model))
        return Network(model, GraphRuntime(model))
    from phalanx.ensembles.ensemble import Ensemble
    from phalanx.models.imported import graph_of
    from phalanx.models.model import Model

    if isinstance(model, Ensemble):
        graph = _of_ensemble(model)
        return Network(graph, ModuleRuntime(model, graph), "the ensemble")
    if not isinstance(model, Model):
        raise ParameterError(
            f"a network of type {type(model).__name__}",
            repair="an ONNX file, a Model (phalanx.load), an Ensemble, or a Graph",
        )
    graph = graph_of(model)
    return Network(graph, ModuleRuntime(model, graph), model.card.name)


def _of_ensemble(ensemble: Ensemble) -> Graph:
    """Its scores, in float64: a third is no number of a smaller type."""
    from phalanx.bounds.joint import joint
    from phalanx.bounds.prepare import prepare
    from phalanx.models.imported import graph_of

    if ensemble.reducer_name not in LINEAR:
        raise ParameterError(
            f"the reducer {ensemble.reducer_name!r} makes no network of an ensemble",
            repair=f"{', '.join(LINEAR)}; or verify the members one by one",
        )
    given = ensemble.reducer_options.get("weights") or [1.0] * len(ensemble.models)
    weights = [weight / math.fsum(given) for weight in given]
    graphs = [prepare(graph_of(m).to(torch.float64), exact=True) for m in ensemble.models]
    softmax = ensemble.reducer_name != "mean"
    return joint(graphs, weights, torch.float64, softmax=softmax, exact=True)


def _of_file(path: str | Path) -> Network:
    name = str(path)
    if not name.endswith((".onnx", ".onnx.gz")):
        from phalanx.models.resolve import resolve_all

        return network_of(resolve_all([name])[0])
    from phalanx.graph.from_onnx import from_onnx_bytes, onnx_bytes

    content = onnx_bytes(Path(path))
    graph = from_onnx_bytes(content, name=name)
    runtime: Runtime
    try:
        runtime = OnnxRuntime(content, graph, name)
    except MissingDependencyError:
        runtime = GraphRuntime(graph)
    return Network(graph, runtime, name)


def speaking_of_inputs(graph: Graph) -> Graph:
    """The graph whose outputs are followed by its inputs: ``(m + n,)``.

    >>> node = Node("y", "scale", ("x",), (2,), {}, {"weight": torch.tensor(3.0)})
    >>> graph = Graph((Node("x", "input", (), (2,)), node), "y")
    >>> run(speaking_of_inputs(graph), torch.tensor([[1.0, 2.0]])).tolist()
    [[3.0, 6.0, 1.0, 2.0]]
    """
    taken = graph.by_name()

    def flat(source: Node, name: str) -> Node:
        while name in taken:
            name += "-"
        size = (prod(source.shape),)
        return Node(name, "reshape", (source.name,), size, {"shape": size})

    first, second = flat(graph[graph.output], "outputs"), flat(graph.input, "inputs")
    joined = "both"
    while joined in taken:
        joined += "-"
    names, size = (first.name, second.name), (first.shape[0] + second.shape[0],)
    last = Node(joined, "concat", names, size, {"axis": 0})
    return Graph((*graph.nodes, first, second, last), joined)
