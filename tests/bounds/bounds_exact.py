"""What a small network answers exactly: in rationals, or with fifty digits where curves need it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import mpmath
import numpy as np
import torch
from torch import Tensor

from phalanx.bounds.outward.affine import AFFINE, linear, offset
from phalanx.bounds.region import Region
from phalanx.graph.ir import CONSTANT, INPUT, Graph, Node
from phalanx.graph.run import run

DIGITS = 60
TRANSCENDENTAL = ("sigmoid", "tanh", "gelu", "exp", "log", "sqrt", "sin", "cos")
ROOTS = ("softmax", "batch-norm")
"""Operators of a graph as it is written that are transcendental too."""


def transcendental(graph: Graph) -> bool:
    return any(node.op in (*TRANSCENDENTAL, *ROOTS) or _rooted(node) for node in graph)


def written(graph: Graph) -> Graph:
    """A graph that is not prepared, as its file says it, for `Exact`."""
    shapes = {node.name: node.shape for node in graph}
    nodes = []
    for node in graph.to(torch.float64):
        inputs = tuple(shapes[name] for name in node.inputs)
        nodes.append(replace(node, attributes={**node.attributes, "inputs": inputs}))
    return Graph(tuple(nodes), graph.output)


def _rooted(node: Node) -> bool:
    return node.op == "power" and node.attributes["exponent"] != int(node.attributes["exponent"])


class Exact:
    """A graph in float64, prepared or `written`, whose numbers are taken as they are."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.number = mpmath.mpf if transcendental(graph) else Fraction
        self.matrices = {n.name: _matrices(n) for n in graph if n.op in AFFINE}

    def values(self, x: Tensor) -> dict[str, np.ndarray]:
        """The numbers of every node at one input ``(*shape)``."""
        with mpmath.workdps(DIGITS):
            values: dict[str, np.ndarray] = {}
            for node in self.graph:
                values[node.name] = self._value(node, x, [values[name] for name in node.inputs])
            return values

    def _value(self, node: Node, x: Tensor, inputs: list[np.ndarray]) -> np.ndarray:
        if node.op in (INPUT, CONSTANT):
            numbers = x if node.op == INPUT else node.tensors["value"]
            return self._array([self.number(v) for v in numbers.flatten().tolist()], node.shape)
        if node.op in AFFINE:
            return self._affine(node, inputs)
        whole = {
            "mul": lambda: inputs[0] * inputs[1],
            "div": lambda: inputs[0] / inputs[1],
            "matmul": lambda: inputs[0] @ inputs[1],
            "quotient": lambda: inputs[0] / self._tensor(node, "divisor"),
            "batch-norm": lambda: self._normalised(node, inputs[0]),
            "softmax": lambda: _softmax(inputs[0], node.attributes["axis"]),
            "max-pool": lambda: _pooled(node, inputs[0]),
        }.get(node.op)
        if whole is not None:
            return self._array(whole(), node.shape)
        return self._array([curve(node, v) for v in inputs[0].flatten()], node.shape)

    def _affine(self, node: Node, inputs: list[np.ndarray]) -> np.ndarray:
        rows, constant = self.matrices[node.name]
        flat = [value.flatten() for value in inputs]
        found = []
        for terms, start in zip(rows, constant, strict=True):
            total = self.number(start)
            for source, entry, weight in terms:
                value = flat[source][entry]
                exact = self.number is Fraction
                total += value * weight if exact else value * weight.numerator / weight.denominator
            found.append(total)
        return self._array(found, node.shape)

    def _tensor(self, node: Node, key: str, *more: int) -> np.ndarray:
        tensor = node.tensors[key]
        numbers = [self.number(v) for v in tensor.flatten().tolist()]
        return self._array(numbers, tuple(tensor.shape)).reshape(*tensor.shape, *more)

    def _normalised(self, node: Node, x: np.ndarray) -> np.ndarray:
        names = ("mean", "variance", "weight", "bias")
        mean, variance, weight, bias = (self._tensor(node, key, 1, 1) for key in names)
        roots = [mpmath.sqrt(v + node.attributes["epsilon"]) for v in variance.flatten()]
        return (x - mean) / self._array(roots, variance.shape) * weight + bias

    @staticmethod
    def _array(numbers, shape: tuple[int, ...]) -> np.ndarray:
        found = np.empty(math.prod(shape), dtype=object)
        found[:] = numbers if isinstance(numbers, list) else numbers.flatten()
        return found.reshape(shape)


def _matrices(node: Node) -> tuple[list[list[tuple[int, int, Fraction]]], list[float]]:
    """For every number of the output: which numbers of which inputs it sums, times what."""
    shapes = node.attributes["inputs"]
    rows: list[list[tuple[int, int, Fraction]]] = [[] for _ in range(math.prod(node.shape))]
    for source, shape in enumerate(shapes):
        count = math.prod(shape)
        values = [torch.zeros(count, *other, dtype=torch.float64) for other in shapes]
        values[source] = torch.eye(count, dtype=torch.float64).reshape(count, *shape)
        image = linear(node, values).expand(count, *node.shape).flatten(1)
        entries = image.nonzero()
        weights = image[entries[:, 0], entries[:, 1]].tolist()
        pooled = node.op == "avg-pool"
        for (entry, out), weight in zip(entries.tolist(), weights, strict=True):
            exact = Fraction(1, round(1 / weight)) if pooled else Fraction(weight)
            rows[out].append((source, entry, exact))
    constant = offset(node, torch.zeros(1, dtype=torch.float64))
    return rows, constant.expand(1, *node.shape).flatten().tolist()


def _softmax(x: np.ndarray, axis: int) -> np.ndarray:
    powers = np.frompyfunc(mpmath.exp, 1, 1)(x)
    return powers / powers.sum(axis, keepdims=True)


def _pooled(node: Node, x: np.ndarray) -> np.ndarray:
    a = node.attributes
    found = np.empty(node.shape, dtype=object)
    for at in itertools.product(*map(range, node.shape)):
        seen = []
        for tap in itertools.product(*map(range, a["kernel"])):
            place = [
                i * s - p + t * d
                for i, s, p, t, d in zip(
                    at[1:], a["stride"], a["padding"], tap, a["dilation"], strict=True
                )
            ]
            if all(0 <= i < n for i, n in zip(place, x.shape[1:], strict=True)):
                seen.append(x[(at[0], *place)])
        found[at] = max(seen)
    return found


def curve(node: Node, v):
    """One function of one number, of a rational or of a number of mpmath."""
    a, zero = node.attributes, v * 0
    one = zero + 1
    exact = {
        "relu": lambda: max(v, zero),
        "abs": lambda: abs(v),
        "leaky-relu": lambda: v if v > 0 else v * type(v)(a["slope"]),
        "clip": lambda: _clipped(v, a["low"], a["high"]),
        "sign": lambda: zero if v == 0 else one if v > 0 else -one,
        "floor": lambda: zero + (math.floor(v) if isinstance(v, Fraction) else mpmath.floor(v)),
        "square": lambda: v * v,
        "reciprocal": lambda: one / v,
        "power": lambda: _power(v, a["exponent"]),
        "sigmoid": lambda: one / (one + mpmath.exp(-v)),
        "tanh": lambda: mpmath.tanh(v),
        "exp": lambda: mpmath.exp(v),
        "log": lambda: mpmath.log(v),
        "sqrt": lambda: mpmath.sqrt(v),
        "sin": lambda: mpmath.sin(v),
        "cos": lambda: mpmath.cos(v),
        "gelu": lambda: _gelu(v, a.get("approximate", "none")),
    }
    return exact[node.op]()


def _clipped(v, low: float, high: float):
    v = v if math.isinf(low) else max(v, type(v)(low))
    return v if math.isinf(high) else min(v, type(v)(high))


def _power(v, exponent: float):
    if exponent == int(exponent):
        return v ** int(exponent)
    return mpmath.power(v, mpmath.mpf(exponent))


def _gelu(v, approximate: str):
    if approximate == "none":
        return v * mpmath.erfc(-v / mpmath.sqrt(2)) / 2
    inner = mpmath.sqrt(2 / mpmath.pi) * (v + mpmath.mpf("0.044715") * v**3)
    return v * (1 + mpmath.tanh(inner)) / 2


def corners(graph: Graph, region: Region, seed: int = 0) -> list[Tensor]:
    """Points of one box: those that gradients at the centre call worst, and one at random."""
    x = region.centre.clone().requires_grad_(True)
    value = run(graph, x)[0]
    found = []
    for output in value:
        (slope,) = torch.autograd.grad(output, x, retain_graph=True)
        for sign in (1.0, -1.0):
            found.append(torch.where(sign * slope > 0, region.lower, region.upper)[0])
    random = torch.Generator().manual_seed(seed)
    share = torch.rand(x.shape, generator=random, dtype=torch.float64)
    inside = region.lower + share * (region.upper - region.lower)
    return [*found, inside.maximum(region.lower).minimum(region.upper)[0]]


def negated(values: np.ndarray) -> list:
    """Numbers and their negatives; mpmath rounds even these to its precision of the moment."""
    with mpmath.workdps(DIGITS):
        flat = list(values.flatten())
        return [*flat, *(-v for v in flat)]


def misses(graph: Graph, region: Region, lower: Tensor, seed: int = 0) -> int:
    """How many answers at `corners` lie outside of lower bounds of the outputs and their negatives.

    Nothing is tolerated: both sides are exact, or known to fifty digits.
    """
    exact, wrong = Exact(graph), 0
    bounds = [exact.number(v) if math.isfinite(v) else None for v in lower.tolist()]
    for x in corners(graph, region, seed):
        answers = exact.values(x)[graph.output]
        for value, bound in zip(negated(answers), bounds, strict=True):
            wrong += bound is not None and not bound <= value
    return wrong
