"""The product of the layers' norms: a Lipschitz constant of a whole network in the l2 norm."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from phalanx.bounds.lipschitz.norms import UNIT, convolution_norm, schur_norm, spectral_norm
from phalanx.bounds.lipschitz.slopes import SLOPES, anywhere
from phalanx.bounds.ops import Affine, rows
from phalanx.errors import GraphError
from phalanx.graph.ir import CONSTANT, INPUT, Graph, Node

ROOM = 1 + 8 * UNIT
"""More than the roundings of one product, one sum and one root."""


def constants(graph: Graph) -> dict[str, float]:
    """For every node, how fast its value can change with the input: ``|v(x) - v(y)| / |x - y|``.

    Branches that are added add their constants, those that are put side by side the squares of
    them. Rounded upward.

    Raises:
        GraphError: an operator without a constant (exp, products of two variables): names the node.
    """
    found: dict[str, float] = {}
    for node in graph:
        before = [found[name] for name in node.inputs]
        if node.op == INPUT:
            found[node.name] = 1.0
        elif node.op == CONSTANT:
            found[node.name] = 0.0
        elif node.op in ("add", "sub"):
            parts = zip(node.attributes["inputs"], before, strict=True)
            found[node.name] = sum(part * _repeats(node, size) for size, part in parts) * ROOM
        elif node.op == "concat":
            found[node.name] = math.hypot(*before) * ROOM
        else:
            found[node.name] = before[0] * layer_norm(node) * ROOM
    return found


def layer_norm(node: Node) -> float:
    """An upper bound of the Lipschitz constant of one operator of one variable.

    Raises:
        GraphError: it has none that is known.
    """
    a, weight = node.attributes, node.tensors.get("weight")
    if node.op == "linear" and weight is not None:
        return float(spectral_norm(weight))
    if node.op in ("conv", "conv-transpose") and weight is not None:
        keys = ("stride", "padding", "dilation")
        # A transposed convolution has the norm of the convolution back from its output.
        sizes = (a["input"] if node.op == "conv" else node.shape)[1:]
        steps = {key: a[key] for key in keys}
        return convolution_norm(weight, sizes, groups=a["groups"], **steps)
    if node.op in SLOPES and math.isfinite(slope := anywhere(node)):
        return slope
    if node.op == "max-pool":
        # |max x - max y| <= max |x - y|: an entry counts once for every window it is in.
        sizes = zip(a["kernel"], a["stride"], a["dilation"], strict=True)
        windows = [-(-k * math.gcd(s, d) // s) for k, s, d in sizes]
        return math.sqrt(math.prod(windows)) * ROOM
    row = rows.get(node.op)
    if isinstance(row, Affine) and len(node.inputs) == 1:
        tensors = {k: t.double() if k == "weight" else t for k, t in node.tensors.items()}
        exact = replace(node, tensors=tensors)
        unit = torch.ones(1, *a["input"], dtype=torch.float64)
        columns = magnitude_adjoint(row, exact, unit.new_ones(1, 1, *node.shape))
        return schur_norm(row.magnitude(exact, unit), columns[0])
    raise GraphError(
        f"node {node.name!r} ({node.op}) has no Lipschitz constant",
        why="its slope is not bounded on all inputs",
        repair="a method that works in a ball: bounds.compute(..., method='lipschitz')",
    )


def magnitude_adjoint(row: Affine, node: Node, rows: Tensor) -> list[Tensor]:
    """The adjoint with the absolute values of all coefficients, of rows that are not negative."""
    tensors = {key: t.abs() if key == "weight" else t for key, t in node.tensors.items()}
    plain = replace(node, tensors=tensors)
    # Where an operator has a sign of its own (sub), all its coefficients share it.
    return [found.abs() for found in row.adjoint(plain, rows)]


def pairwise(graph: Graph) -> Tensor:
    """How fast the margin of class c over j can change: float64 ``(C, C)``, rounded upward.

    ``|w_c - w_j|_2`` times the constant of what the last layer reads (Tsuzuku et al. 2018; Leino et
    al. 2021), where the last layer is linear; else the square root of two times the constant.

    Raises:
        GraphError: see `constants`.
    """
    found, last = constants(graph), graph[graph.output]
    classes = last.shape[-1]
    if last.op == "linear" and len(last.shape) == 1:
        weight = last.tensors["weight"].double()
        apart = torch.linalg.vector_norm(weight.unsqueeze(1) - weight, dim=2)
        return apart * found[last.inputs[0]] * (1 + 2 * (weight.shape[1] + 4) * UNIT)
    unit = 1 - torch.eye(classes, dtype=torch.float64)
    return unit * (math.sqrt(2) * found[graph.output] * ROOM)


def _repeats(node: Node, size: tuple[int, ...]) -> float:
    """How much longer a value becomes by being broadcast."""
    return math.sqrt(math.prod(node.shape) / math.prod(size)) * ROOM
