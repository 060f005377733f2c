"""Execute a graph: a batch in, a batch out, differentiable, on any device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor, nn

from phalanx.errors import GraphError
from phalanx.graph.ir import INPUT, Graph, Node
from phalanx.graph.operators import OPERATORS


def run(graph: Graph, x: Tensor) -> Tensor:
    """The output ``(B, *shape)`` for inputs ``(B, *shape)``.

    Raises:
        GraphError: inputs of another shape.
    """
    return execute(graph, x, lambda node: node)[graph.output]


def execute(
    graph: Graph, x: Tensor, carried: Callable[[Node], Node], *, keep: bool = False
) -> dict[str, Tensor]:
    """Values ``(B, *shape)`` by node name: all of them with ``keep``, else the output's.

    Args:
        graph: what to run.
        x: inputs ``(B, *graph.input.shape)``.
        carried: the node with the tensors to compute with.
        keep: intermediate values are otherwise dropped once everybody has read them.
    """
    if tuple(x.shape[1:]) != graph.input.shape:
        raise GraphError(
            f"inputs of shape {tuple(x.shape[1:])} for a graph that reads {graph.input.shape}"
        )
    left = {name: len(readers) for name, readers in graph.readers().items()}
    values: dict[str, Tensor] = {}
    for node in graph:
        if node.op == INPUT:
            values[node.name] = x
            continue
        operands = [values[name] for name in node.inputs]
        values[node.name] = OPERATORS[node.op](carried(node), *operands)
        for name in node.inputs:
            left[name] -= 1
            if not keep and not left[name] and name != graph.output:
                values.pop(name, None)
    output = values[graph.output]
    values[graph.output] = output.expand(len(x), *output.shape[1:])  # it may be constant
    return values


class GraphNetwork(nn.Module):
    """A graph as a torch module.

    Its tensors are parameters without gradient (indices and other integers: buffers), named
    after node and part, so that `.to()`, digests and checkpoints see them.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        bare, self._names = [], {}
        for index, node in enumerate(graph):
            names = {}
            for key, tensor in node.tensors.items():
                names[key] = f"n{index}_{key}"
                value = tensor.detach().clone()
                if value.is_floating_point():
                    parameter = nn.Parameter(value, requires_grad=False)
                    self.register_parameter(names[key], parameter)
                else:
                    self.register_buffer(names[key], value)
            self._names[node.name] = names
            bare.append(replace(node, tensors={}))
        self._bare = Graph(tuple(bare), graph.output)
        self.eval()

    @property
    def graph(self) -> Graph:
        """The graph with the tensors as they are now."""
        return Graph(tuple(map(self._carried, self._bare)), self._bare.output)

    def forward(self, x: Tensor) -> Tensor:
        """`run`; inputs of another shape with as many numbers are read in row-major order."""
        shape = self._bare.input.shape
        if tuple(x.shape[1:]) != shape and x[:1].numel() == math.prod(shape):
            x = x.reshape(len(x), *shape)
        return execute(self._bare, x, self._carried)[self._bare.output]

    def _carried(self, node: Node) -> Node:
        names: Mapping[str, str] = self._names[node.name]
        if not names:
            return node
        return replace(node, tensors={key: getattr(self, name) for key, name in names.items()})
