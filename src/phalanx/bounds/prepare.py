"""A graph made ready for bounds: every operator has a row, every node its inputs' shapes."""

from __future__ import annotations

from dataclasses import replace

import torch

from phalanx.bounds.ops import rows
from phalanx.errors import GraphError, NonFiniteError
from phalanx.graph.ir import INPUT, Graph, Node
from phalanx.graph.simplify import simplify

REWRITTEN = {
    "softmax": "as exponentials of differences, their sums and reciprocals",
    "div": "as a product with a reciprocal",
}
"""Operators without a row of their own, and what is bounded in their place."""

NO_ROW = "rewrite it with operators that have one: phalanx list operators"
"""What to do about an operator without a row."""

LARGEST_SOFTMAX = 1 << 22
"""Differences that one softmax may be bounded by."""


class Prepared(Graph):
    """A graph that has been through `prepare`; `compute` takes it as it is."""


def prepare(graph: Graph, *, exact: bool = False) -> Prepared:
    """The graph that bounding methods walk.

    Softmax is rewritten as ``y_i = 1 / sum_j exp(x_j - x_i)``: no product of two variables, and no
    exponential of anything but differences.

    Args:
        graph: any.
        exact: for bounds that hold in exact arithmetic, see `phalanx.graph.simplify`.

    Raises:
        GraphError: an operator has no row; names the node. NonFiniteError: a weight is NaN or
            infinite.
    """
    if isinstance(graph, Prepared):
        return graph
    graph = simplify(_without_softmax(simplify(graph, exact=exact)), exact=exact)
    shapes = {node.name: node.shape for node in graph}
    known = set(rows.names())
    nodes = []
    for node in graph:
        if node.op != INPUT and node.op not in known:
            raise GraphError(
                f"node {node.name!r} ({node.op}) cannot be bounded",
                why="no row of phalanx.bounds.ops says how",
                repair=NO_ROW,
            )
        check_finite(node)
        if node.op == "max-pool":
            _check_windows(node, shapes[node.inputs[0]])
        inputs = tuple(shapes[name] for name in node.inputs)
        seen = {"inputs": inputs, "input": inputs[0]} if inputs else {}
        tensors = {**node.tensors, "zero": torch.zeros(())} if node.op == "pad" else node.tensors
        nodes.append(replace(node, attributes={**node.attributes, **seen}, tensors=tensors))
    return Prepared(tuple(nodes), graph.output)


def check_finite(node: Node) -> None:
    """Refuse weights and constants that are no numbers.

    Raises:
        NonFiniteError: names the node.
    """
    for key, tensor in node.tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NonFiniteError(
                f"node {node.name!r} ({node.op}) has a {key} with NaN or infinite numbers",
                why="its value could be NaN, of which no bound speaks",
            )


def _check_windows(node: Node, shape: tuple[int, ...]) -> None:
    """Dilated windows may see nothing but padding."""
    a = node.attributes
    axes = (a["kernel"], a["stride"], a["padding"], a["dilation"])
    for size, count, k, s, p, d in zip(shape[1:], node.shape[1:], *axes, strict=True):
        for start in range(-p, count * s - p, s):
            if not any(0 <= at < size for at in range(start, start + k * d, d)):
                raise GraphError(
                    f"node {node.name!r} (max-pool) has windows of nothing but padding",
                    why="the largest of no numbers is minus infinity, of which no bound speaks",
                )


def _without_softmax(graph: Graph) -> Graph:
    nodes: list[Node] = []
    for node in graph:
        nodes += _softmax(node) if node.op == "softmax" else [node]
    return Graph(tuple(nodes), graph.output)


def _softmax(node: Node) -> list[Node]:
    axis, shape = node.attributes["axis"], node.shape
    size = shape[axis]
    numbers = torch.Size(shape).numel() * size
    if numbers > LARGEST_SOFTMAX:
        raise GraphError(
            f"node {node.name!r} (softmax) has {numbers} differences to bound",
            why=f"at most {LARGEST_SOFTMAX} are",
        )
    one = (*shape[:axis], 1, *shape[axis:])
    other = (*shape[: axis + 1], 1, *shape[axis + 1 :])
    full = (*shape[:axis], size, *shape[axis:])
    (source,) = node.inputs

    def named(part: str) -> str:
        return f"{node.name}/{part}"

    # Axis `axis` of the differences is j, the next one is i.
    order = list(range(len(full)))
    return [
        Node(named("i"), "reshape", (source,), one, {"shape": one}),
        Node(named("j"), "reshape", (source,), other, {"shape": other}),
        Node(named("differences"), "sub", (named("j"), named("i")), full),
        Node(named("exp"), "exp", (named("differences"),), full),
        Node(named("sums"), "reduce-sum", (named("exp"),), one, {"axes": (order[axis],)}),
        Node(named("reciprocal"), "reciprocal", (named("sums"),), one),
        Node(node.name, "reshape", (named("reciprocal"),), shape, {"shape": shape}),
    ]
