"""Formulas that files and programs spell out, as the one operator they are.

``x * 0.5 * (1 + erf(x / sqrt(2)))`` is GELU, whatever the order of its factors, and with
``tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))`` for the ``erf`` it is GELU's approximation. What such
a formula computes with rounded constants is not quite GELU: the node's attribute ``error`` says by
how much the two may differ, and every bound takes it off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from phalanx.graph.build import without_dead_ends
from phalanx.graph.ir import OPAQUE, Graph, Node

NEAR = 2.0**-23
"""Constants are those of a formula up to so much of them: two roundings to single precision."""

CUBIC = 0.044715
"""Of the approximation (Hendrycks & Gimpel 2016)."""

SLOPE = 0.2936
"""How fast GELU changes with its constants, relatively, at most; see `_error`."""

_ERF = ("Erf", "erf")

Nodes = Mapping[str, Node]

ZERO, ONE = Fraction(0), Fraction(1)


@dataclass(frozen=True)
class _Line:
    """A value that is ``weight * source + bias``."""

    source: Node
    weight: Fraction = ONE
    bias: Fraction = ZERO


def recognised(graph: Graph) -> Graph:
    """The same function, its formulas being operators."""
    if not any(map(_is_head, graph)):
        return graph
    nodes, found = graph.by_name(), []
    for node in graph:
        found += (_gelu(nodes, node) if node.op == "mul" else None) or [node]
    return without_dead_ends(Graph(tuple(found), graph.output))


def _is_head(node: Node) -> bool:
    return node.op == "tanh" or (node.op == OPAQUE and node.attributes["operator"] in _ERF)


def _gelu(nodes: Nodes, node: Node) -> list[Node] | None:
    """A product ``(a x) (b head(x) + b)`` as ``2 a b gelu(x)``."""
    for left, right in (node.inputs, node.inputs[::-1]):
        *_, head = _lines(nodes, right)
        if not _is_head(head.source) or head.weight != head.bias:
            continue
        for line in _lines(nodes, left):
            if line.bias or line.source.shape != node.shape:
                continue
            if (off := _deviation(nodes, head.source, line.source)) is not None:
                return _nodes(nodes, node, head.source, line.source, off, line.weight * head.weight)
    return None


def _nodes(  # noqa: PLR0917 - of a formula
    nodes: Nodes, node: Node, head: Node, x: Node, off: float, half: Fraction
) -> list[Node] | None:
    """GELU and twice ``half`` of it, under the product's name; None where that is rounded."""
    factor = torch.tensor(float(2 * half))
    if Fraction(float(factor)) != 2 * half:
        return None
    form = "tanh" if head.op == "tanh" else "none"
    attributes = {"approximate": form, "error": _error(off)}
    if half == Fraction(1, 2):
        return [Node(node.name, "gelu", (x.name,), node.shape, attributes)]
    name = f"{node.name}-gelu"
    while name in nodes:
        name += "-"
    return [
        Node(name, "gelu", (x.name,), node.shape, attributes),
        Node(node.name, "scale", (name,), node.shape, {}, {"weight": factor}),
    ]


def _deviation(nodes: Nodes, head: Node, x: Node) -> float | None:
    """By how much, relatively, constants in the head miss those of GELU of x; None: by too much."""
    if head.op == OPAQUE:
        lines = [line for line in _lines(nodes, head.inputs[0]) if line.source is x]
        return _missed(lines[0], 1 / math.sqrt(2)) if lines else None
    *_, inner = _lines(nodes, head.inputs[0])
    if inner.source.op != "add":
        return None
    for first, second in (inner.source.inputs, inner.source.inputs[::-1]):
        *_, cubic = _lines(nodes, second)
        if first == x.name and _is_cube(nodes, cubic.source, x):
            misses = _missed(inner, math.sqrt(2 / math.pi)), _missed(cubic, CUBIC)
            return None if None in misses else math.fsum(miss or 0.0 for miss in misses)
    return None


def _missed(line: _Line, constant: float) -> float | None:
    off = abs(float(line.weight) / constant - 1)
    return None if line.bias or not off <= NEAR else off


def _error(off: float) -> float:
    """At most ``|x Phi(s x) - x Phi(x)|`` for s that is off one by ``off``.

    It is ``|s - 1| x^2 phi(t x)`` for a t between, and ``u^2 phi(u) <= 0.29354``. Of the
    approximation, whose tanh reads v, it is ``off |x| / 2 |v| sech(v)^2`` with ``|x| <= |v| /
    0.797`` and ``v^2 sech(v)^2 <= 0.4393``: less. The constants were compared in double precision.
    """
    return SLOPE * (off + 1e-15)


def _is_cube(nodes: Nodes, node: Node, x: Node) -> bool:
    if node.op == "power":
        return node.inputs == (x.name,) and node.attributes["exponent"] == 3
    if node.op != "mul" or x.name not in node.inputs:
        return False
    return any(_is_square(nodes[name], x) for name in node.inputs)


def _is_square(node: Node, x: Node) -> bool:
    return node.op in ("mul", "square") and set(node.inputs) == {x.name}


def _lines(nodes: Nodes, name: str) -> Iterator[_Line]:
    """What a value is a line of: itself first, then what is before its last factors and shifts."""
    line = _Line(nodes[name])
    while True:
        yield line
        if (step := _step(nodes, line.source)) is None:
            return
        weight, bias = line.weight * step.weight, line.weight * step.bias + line.bias
        line = _Line(step.source, weight, bias)


def _step(nodes: Nodes, node: Node) -> _Line | None:
    """A factor or a shift of one number that is the same for every entry, and no parameter."""
    if node.op not in ("scale", "quotient") or not all(map(_is_number, node.tensors.values())):
        return None
    before = nodes[node.inputs[0]]
    if before.shape != node.shape:
        return None
    numbers = {key: Fraction(float(tensor)) for key, tensor in node.tensors.items()}
    if node.op == "scale":
        return _Line(before, numbers.get("weight", ONE), numbers.get("bias", ZERO))
    return _Line(before, 1 / numbers["divisor"]) if numbers["divisor"] else None


def _is_number(tensor: Tensor) -> bool:
    return tensor.numel() == 1 and not tensor.requires_grad and math.isfinite(float(tensor))
