"""`Builder`: nodes one by one, their shapes inferred, what is constant computed where it can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from phalanx.errors import GraphError
from phalanx.graph.folding import exactly
from phalanx.graph.ir import CONSTANT, INPUT, OPAQUE, Graph, Node
from phalanx.graph.operators import ELEMENTWISE, OPERATORS

LARGEST_VALUE = 1 << 28
"""Numbers one value of one input may have; more is a mistake or an attack, not a network."""

SMALL = 1 << 22
"""Numbers that are computed without a thought."""

BY_CONSTANT = ("scale", "quotient")
"""Operators that a constant of more axes broadcasts."""

BROADCAST = (*BY_CONSTANT, "add", "sub", "mul", "div")
PAIRS = ("add", "sub", "mul", "div", "matmul")
"""Operators on two values, broadcast from the last axis."""

NO_LARGER = (*ELEMENTWISE, "batch-norm", "reshape", "transpose", "reduce-sum", "concat", "softmax")
"""Operators whose value has no more numbers than they read."""

# What torch answers to operands that do not fit, on its meta device as anywhere else.
_DOES_NOT_FIT = (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError, KeyError)


class Builder:
    """Collects the nodes of a graph.

    Args:
        shape: of one input, without the batch axis.
        name: what the input is called.
        exact: constants of constants that would be rounded stay operators on constants.
    """

    def __init__(self, shape: Sequence[int], name: str = INPUT, *, exact: bool = False) -> None:
        self._nodes: dict[str, Node] = {}
        self._exact = exact
        self.input = self._keep(Node(self._unused(name), INPUT, (), _checked(name, tuple(shape))))

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        *,
        name: str = "",
        tensors: Mapping[str, Tensor] | None = None,
        **attributes: Any,
    ) -> str:
        """Append an operator and return its name; constants of constants become one constant.

        With ``exact`` they do where no number is rounded, see `phalanx.graph.folding`.

        Raises:
            GraphError: it cannot be applied to these inputs; names the node.
        """
        name = self._unused(name or op)
        if op in (*PAIRS, *BY_CONSTANT):
            inputs = self._aligned(inputs, (tensors or {}).values())
        node = Node(name, op, tuple(inputs), (), attributes, dict(tensors or {}))
        if inputs and all(self[source].op == CONSTANT for source in inputs):
            values = [self[source].tensors["value"].unsqueeze(0) for source in inputs]
            found = _applied(node, values)
            if not self._exact or exactly(node, values, found):
                return self.constant(found.squeeze(0), name=name)
        sources = [self[source] for source in inputs]
        where = "cpu" if _is_small(node, sources) else "meta"
        operands = [_stand_in(source, where) for source in sources]
        carried = {key: _shadow(tensor, where) for key, tensor in node.tensors.items()}
        result = _applied(Node(name, op, node.inputs, (), attributes, carried), operands)
        shape = _checked(name, tuple(result.shape[1:]))
        return self._keep(Node(name, op, node.inputs, shape, attributes, node.tensors))

    def _aligned(self, inputs: Sequence[str], tensors: Iterable[Tensor]) -> list[str]:
        """With as many axes each: else the batch of one would meet another axis of the other."""
        ranks = [len(self[source].shape) for source in inputs]
        most = max([*ranks, *(tensor.ndim for tensor in tensors)])
        found = []
        for source in inputs:
            shape = self[source].shape
            wide = (*[1] * (most - len(shape)), *shape)
            found.append(source if wide == shape else self.add("reshape", [source], shape=wide))
        return found

    def constant(self, value: Tensor, *, name: str = CONSTANT) -> str:
        """A node that is ``value`` for every input."""
        shape = _checked(name, tuple(value.shape))
        return self._keep(Node(self._unused(name), CONSTANT, (), shape, {}, {"value": value}))

    def opaque(
        self,
        operator: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        refused: GraphError,
        *,
        name: str,
        layer: str = "",
    ) -> str:
        """A node for an operator that is not read, and what its reader says of it.

        Args:
            operator: its name in the file or program.
            inputs: what it reads.
            shape: of its value.
            refused: the refusal that it stands in for.
            name: what the node is called.
            layer: the part of the network it belongs to, where that has a name.
        """
        told = {"what": refused.what, "why": refused.why, "repair": refused.repair}
        attributes = {"operator": operator, "layer": layer, **told}
        name = self._unused(name or operator)
        shape = _checked(name, tuple(shape))
        return self._keep(Node(name, OPAQUE, tuple(inputs), shape, attributes))

    def value(self, name: str) -> Tensor | None:
        """What a constant node is; None for others."""
        node = self[name]
        return node.tensors["value"] if node.op == CONSTANT else None

    def depends(self, name: str) -> bool:
        """Whether a node's value depends on the input."""
        return any(node.op == INPUT for node in needed(self._nodes.values(), name))

    def graph(self, output: str) -> Graph:
        """Everything the output needs."""
        return without_dead_ends(Graph(tuple(self._nodes.values()), output))

    def _keep(self, node: Node) -> str:
        self._nodes[node.name] = node
        return node.name

    def _unused(self, name: str) -> str:
        if name not in self._nodes:
            return name
        number = 1
        while f"{name}-{number}" in self._nodes:
            number += 1
        return f"{name}-{number}"


def without_dead_ends(graph: Graph) -> Graph:
    """The graph without the nodes its output does not depend on (the input stays)."""
    reached = {node.name for node in needed(graph, graph.output)}
    kept = [node for node in graph if node.name in reached or node.op == INPUT]
    return Graph(tuple(kept), graph.output)


def needed(nodes: Iterable[Node], output: str) -> list[Node]:
    """The nodes that one depends on, itself among them, last first."""
    wanted, found = {output}, []
    for node in reversed(list(nodes)):
        if node.name in wanted:
            wanted.update(node.inputs)
            found.append(node)
    return found


def _is_small(node: Node, sources: Sequence[Node]) -> bool:
    """Whether a pass of zeros costs nothing: then torch's meta device is left alone.

    Its first use imports torch's compiler, which takes longer than reading most networks.
    """
    shapes = [source.shape for source in sources]
    numbers = [prod(shape) for shape in shapes]
    weight = node.tensors.get("weight")
    if node.op in BROADCAST:
        shapes = [*shapes, *(tuple(tensor.shape) for tensor in node.tensors.values())]
        longest = max(map(len, shapes))
        filled = [(1,) * (longest - len(shape)) + tuple(shape) for shape in shapes]
        numbers = [prod(map(max, zip(*filled, strict=True)))]
    elif node.op == "linear" and weight is not None and shapes[0]:
        numbers = [numbers[0] // max(1, shapes[0][-1]) * len(weight)]
    elif node.op == "conv" and weight is not None:
        padding = node.attributes["padding"]
        sides = [n + 2 * p for n, p in zip(shapes[0][1:], padding, strict=False)]
        numbers = [len(weight) * prod(sides)]
    elif node.op not in NO_LARGER:
        return False
    return sum(numbers) <= SMALL


def _stand_in(node: Node, where: str) -> Tensor:
    if node.op == CONSTANT:
        return _shadow(node.tensors["value"], where).unsqueeze(0)
    return torch.zeros((), device=where).expand(1, *node.shape)


def _shadow(tensor: Tensor, where: str) -> Tensor:
    """A tensor of zeros that takes no memory; all floating-point types count as one."""
    kind = torch.get_default_dtype() if tensor.is_floating_point() else tensor.dtype
    return torch.zeros((), dtype=kind, device=where).expand(tensor.shape)


def _applied(node: Node, operands: Sequence[Tensor]) -> Tensor:
    try:
        return OPERATORS[node.op](node, *operands)
    except _DOES_NOT_FIT as error:
        shapes = " and ".join(str(tuple(operand.shape[1:])) for operand in operands)
        raise GraphError(
            f"node {node.name!r} ({node.op}) cannot be applied to {shapes or 'nothing'}",
            why=str(error).partition("\n")[0],
        ) from error


def _checked(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    numbers = 1
    for size in shape:
        numbers *= size
    if any(size < 0 for size in shape) or numbers > LARGEST_VALUE:
        raise GraphError(
            f"node {name!r} has shape {shape}",
            why=f"values of more than {LARGEST_VALUE} numbers are not read",
        )
    return shape
