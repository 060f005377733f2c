"""Small networks and properties for tests of verification."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case, Property


def double(*numbers: float) -> Tensor:
    """A float64 vector."""
    return torch.tensor(numbers, dtype=torch.float64)


def affine(weight: list[list[float]], bias: list[float], *, kind: torch.dtype) -> dict[str, Tensor]:
    """Tensors of a linear layer."""
    return {"weight": torch.tensor(weight, dtype=kind), "bias": torch.tensor(bias, dtype=kind)}


def tent(*, kind: torch.dtype = torch.float32) -> Graph:
    """``y_0 = |x_0| + |x_1|`` by four ReLUs, ``y_1 = x_0``: two inputs, two outputs."""
    first = affine([[1, 0], [-1, 0], [0, 1], [0, -1]], [0, 0, 0, 0], kind=kind)
    last = affine([[1, 1, 1, 1], [1, -1, 0, 0]], [0, 0], kind=kind)
    nodes = (
        Node("x", "input", (), (2,)),
        Node("first", "linear", ("x",), (4,), {}, first),
        Node("relu", "relu", ("first",), (4,)),
        Node("y", "linear", ("relu",), (2,), {}, last),
    )
    return Graph(nodes, "y")


def case(rows: list[list[float]], offset: list[float], side: float = 1.0) -> Case:
    """A case over ``[-side, side]^2`` with rows of the two outputs."""
    return Case(
        double(-side, -side),
        double(side, side),
        torch.tensor(rows, dtype=torch.float64).reshape(-1, 2),
        torch.tensor(offset, dtype=torch.float64),
    )


def reaches(level: float) -> Property:
    """Unsafe where ``|x_0| + |x_1| >= level``; at most 2 is reached."""
    return Property((case([[-1, 0]], [level]),))


def exactly(graph: Graph, x: list[Fraction]) -> dict[str, list[Fraction]]:
    """Values of all nodes at a point, in rational numbers."""
    values = {graph.input.name: x}
    for node in graph.nodes[1:]:
        read = [number for name in node.inputs for number in values[name]]
        if node.op == "linear":
            pairs = zip(node.tensors["weight"].tolist(), node.tensors["bias"].tolist(), strict=True)
            values[node.name] = [
                sum((Fraction(w) * v for w, v in zip(row, read, strict=True)), Fraction(shift))
                for row, shift in pairs
            ]
        elif node.op == "relu":
            values[node.name] = [max(v, Fraction(0)) for v in read]
        else:
            values[node.name] = read
    return values
