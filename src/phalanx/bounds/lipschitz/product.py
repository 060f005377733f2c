"""The product of the layers' norms: a Lipschitz constant of a whole network in l2, l1 or l_inf.

Values are measured in the norm of the input throughout: a layer's norm is its largest singular
value, its largest column sum or its largest row sum (Szegedy et al. 2014, section 4.3).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from phalanx.bounds.lipschitz.kept import once_a_graph
from phalanx.bounds.lipschitz.norms import (
    UNIT,
    convolution_norm,
    gamma,
    outward,
    schur_norm,
    spectral_norm,
)
from phalanx.bounds.lipschitz.slopes import SLOPES, anywhere
from phalanx.bounds.ops import Affine
from phalanx.bounds.ops import rows as table
from phalanx.bounds.region import DUAL
from phalanx.errors import GraphError
from phalanx.graph.ir import CONSTANT, INPUT, Graph, Node

ROOM = 1 + 8 * UNIT
"""More than the roundings of one product, one sum and one root."""

REPEATED = {"l2": 0.5, "l1": 1.0, "linf": 0.0}
"""To which power of the number of copies a value becomes longer by being repeated."""


@once_a_graph
def constants(graph: Graph, norm: str = "l2") -> dict[str, float]:
    """For every node, how fast its value can change with the input: ``|v(x) - v(y)| / |x - y|``.

    Branches that are added add their constants; those that are put side by side their squares in
    l2, themselves in l1, and in l_inf the largest counts. Rounded upward.

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
            copies = ((math.prod(node.shape) / math.prod(size), part) for size, part in parts)
            found[node.name] = sum(n ** REPEATED[norm] * part for n, part in copies) * ROOM
        elif node.op == "concat":
            side_by_side = {"l2": math.hypot(*before), "l1": math.fsum(before), "linf": max(before)}
            found[node.name] = side_by_side[norm] * ROOM
        else:
            found[node.name] = before[0] * layer_norm(node, norm) * ROOM
    return found


def layer_norm(node: Node, norm: str = "l2") -> float:
    """An upper bound of the Lipschitz constant of one operator of one variable.

    Raises:
        GraphError: it has none that is known.
    """
    a = node.attributes
    if node.op in SLOPES and math.isfinite(slope := anywhere(node)):
        return slope
    if node.op == "max-pool":
        # |max x - max y| <= max |x - y|: an entry counts once for every window it is in.
        sizes = zip(a["kernel"], a["stride"], a["dilation"], strict=True)
        windows = [-(-k * math.gcd(s, d) // s) for k, s, d in sizes]
        return float(math.prod(windows) ** REPEATED[norm]) * ROOM
    row = table.get(node.op)
    if isinstance(row, Affine) and len(node.inputs) == 1:
        return _spectral(node, row) if norm == "l2" else _longest(node, row, norm)
    raise GraphError(
        f"node {node.name!r} ({node.op}) has no Lipschitz constant",
        why="its slope is not bounded on all inputs",
        repair="a method that works in a ball: bounds.compute(..., method='lipschitz')",
    )


def _spectral(node: Node, row: Affine) -> float:
    a, weight = node.attributes, node.tensors.get("weight")
    if node.op == "linear" and weight is not None:
        return float(spectral_norm(weight))
    if node.op in ("conv", "conv-transpose") and weight is not None:
        keys = ("stride", "padding", "dilation")
        # A transposed convolution has the norm of the convolution back from its output.
        sizes = (a["input"] if node.op == "conv" else node.shape)[1:]
        steps = {key: a[key] for key in keys}
        return convolution_norm(weight, sizes, groups=a["groups"], **steps)
    return schur_norm(*_sums(node, row))


def _longest(node: Node, row: Affine, norm: str) -> float:
    """The largest sum of absolute values of a row, in l1 of a column."""
    of_rows, of_columns = _sums(node, row)
    found = of_rows if norm == "linf" else of_columns
    return outward(found.abs().max(), max(of_rows.numel(), of_columns.numel())).item()


def _sums(node: Node, row: Affine) -> tuple[Tensor, Tensor]:
    """Of the absolute values of a matrix: of its rows and of its columns."""
    tensors = {k: t.double() if k == "weight" else t for k, t in node.tensors.items()}
    exact = replace(node, tensors=tensors)
    unit = torch.ones(1, *node.attributes["input"], dtype=torch.float64)
    columns = magnitude_adjoint(row, exact, unit.new_ones(1, 1, *node.shape))
    return row.magnitude(exact, unit), columns[0]


def magnitude_adjoint(row: Affine, node: Node, rows: Tensor) -> list[Tensor]:
    """The adjoint with the absolute values of all coefficients, of rows that are not negative."""
    tensors = {key: t.abs() if key == "weight" else t for key, t in node.tensors.items()}
    plain = replace(node, tensors=tensors)
    # Where an operator has a sign of its own (sub), all its coefficients share it.
    return [found.abs() for found in row.adjoint(plain, rows)]


def rates(graph: Graph, rows: Tensor, norm: str = "l2") -> Tensor:
    """How fast rows ``(S, B, *output shape)`` of the output can change: float64 ``(S, B)``.

    ``|rows W|`` in the dual norm times the constant of what the last layer reads, where the last
    layer is linear (of margins ``|w_c - w_j|``: Tsuzuku et al. 2018; Leino et al. 2021); else
    ``|rows|`` times the output's own. Rounded upward.

    Raises:
        GraphError: see `constants`.
    """
    found, last, own = constants(graph, norm), graph[graph.output], rows.double()
    read = last.name
    if last.op == "linear" and len(last.shape) == 1:
        weight, read = last.tensors["weight"].double(), last.inputs[0]
        own = (own @ weight).abs() + gamma(len(weight) + 2) * (own.abs() @ weight.abs())
    own = own.flatten(2)
    length = torch.linalg.vector_norm(own, ord=DUAL[norm], dim=2)
    return outward(length, own.shape[2] + 2) * found[read] * ROOM
