"""`Graph`: a network as operators in order, on one input and with one output.

Shapes leave the batch axis out: a node stands for a tensor ``(B, *shape)``, and no operator
mixes the rows of a batch. Attributes count axes without the batch axis too, so axis 0 of an
image is its channels. What does not depend on the input is a node ``constant`` without inputs,
or one of the tensors a node carries (weight, bias, indices).

An outline is a graph to look at: operators that are not read are nodes ``opaque`` in it, of known
shape and nothing else. Nobody but the doctor asks for one; every other reader goes through
`refuse_opaque`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from torch import Tensor

from phalanx.errors import GraphError

INPUT = "input"
CONSTANT = "constant"
OPAQUE = "opaque"


@dataclass(frozen=True, eq=False)
class Node:
    """One operator.

    Attributes:
        name: unique in its graph, from the file or program it was read from where possible.
        op: what it computes, a name of `phalanx.graph.operators`, or `OPAQUE`.
        inputs: names of the nodes it reads.
        shape: of its value, without the batch axis.
        attributes: plain values: strides, axes, exponents.
        tensors: constants it carries: ``weight``, ``bias``, ``indices``.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in an order in which each comes after those it reads; the first is the input.

    Raises:
        GraphError: a name is used twice, a node reads one that is not before it, or the output
            is none of them.
    """

    nodes: tuple[Node, ...]
    output: str

    def __post_init__(self) -> None:
        if not self.nodes or self.nodes[0].op != INPUT:
            raise GraphError("a graph without an input")
        before: set[str] = set()
        for node in self.nodes:
            if node.name in before:
                raise GraphError(f"two nodes are called {node.name!r}")
            if unknown := [name for name in node.inputs if name not in before]:
                raise GraphError(
                    f"node {node.name!r} ({node.op}) reads {unknown[0]!r}, which is not before it",
                    why="a graph has no cycles and no loose ends",
                )
            before.add(node.name)
        if self.output not in before:
            raise GraphError(f"the output {self.output!r} is no node")

    @property
    def input(self) -> Node:
        """The node that stands for the network's input."""
        return self.nodes[0]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        return self.by_name()[name]

    def by_name(self) -> dict[str, Node]:
        """Nodes by their names."""
        return {node.name: node for node in self.nodes}

    def readers(self) -> dict[str, list[Node]]:
        """Who reads each node; the output's own reader, the outside world, is not among them."""
        found: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                found[name].append(node)
        return found

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The graph with its tensors moved as by `torch.Tensor.to`; integers keep their type.

        Itself where they are there already.
        """
        if args and not isinstance(args[0], str) and len(args) == 1 and not kwargs:
            kwargs, args = {"dtype": args[0]} if _is_dtype(args[0]) else {"device": args[0]}, ()
        nodes = [
            replace(node, tensors={k: _moved(t, args, kwargs) for k, t in node.tensors.items()})
            for node in self.nodes
        ]
        same = all(
            moved is tensor
            for new, node in zip(nodes, self.nodes, strict=True)
            for moved, tensor in zip(new.tensors.values(), node.tensors.values(), strict=True)
        )
        return self if same else replace(self, nodes=tuple(nodes))


def refuse_opaque(graph: Graph) -> Graph:
    """The graph as it is, if all its operators are read.

    Raises:
        GraphError: what the reader said of the first that is not.
    """
    for node in graph:
        if node.op == OPAQUE:
            told = node.attributes
            raise GraphError(told["what"], why=told["why"], repair=told["repair"])
    return graph


def _is_dtype(value: object) -> bool:
    return type(value).__name__ == "dtype"


def _moved(tensor: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    if tensor.is_floating_point():
        return tensor.to(*args, **kwargs)
    kept = {key: value for key, value in kwargs.items() if key != "dtype"}
    return tensor.to(*args, **kept) if args or kept else tensor
