"""`Dense`: a small network as matrices between curves, made for one box of inputs.

Branch and bound asks for the bounds of thousands of sub-boxes of one box. What is the same for all
of them is done once: inputs that cannot move become constants, runs of affine operators one matrix,
and ReLUs whose sign is settled on the whole box vanish. What is left are sources (the free inputs,
and the open entries of each curve) and, for each curve and for the output, a matrix for each source
before it; residual networks and concatenations included.

Matrices are float64. Where they had to be computed, `Map.sizes` carries by how much they may be off
(Higham 2002, chapter 3), so that bounds found with them hold for the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from phalanx.bounds.ops import Affine, rows
from phalanx.bounds.outward.affine import AFFINE, MOVES, lengths, magnitude, offset, roundings
from phalanx.bounds.outward.curves import CURVES
from phalanx.bounds.outward.rounding import gamma, up
from phalanx.graph.ir import CONSTANT, INPUT, Graph, Node
from phalanx.verify.bab.bent import unit

MOST_NUMBERS = 1 << 25
"""Entries of all matrices together, beyond which a network is not small."""


@dataclass(frozen=True, eq=False)
class Map:
    """``sum_s weights[s] h_s + bias``, and how exactly that is known.

    Attributes:
        weights: ``(n, size of the source)`` by number of the source.
        bias: ``(n,)``.
        sizes: likewise; ``gamma(terms) sizes`` is at least what a weight is off by, plus what
            products with it lose.
        bias_size: ``(n,)``, of the bias.
        terms: how many products are summed, and some.
    """

    weights: Mapping[int, Tensor]
    bias: Tensor
    sizes: Mapping[int, Tensor]
    bias_size: Tensor
    terms: int

    def to(self, kind: torch.dtype) -> Map:
        """In another precision, what that rounds counted in the sizes."""
        share = gamma(self.terms) * unit(kind) / unit(torch.float64)

        def rounded(value: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
            near = value.to(kind)
            off = (near.double() - value).abs() + gamma(self.terms) * (size - value.abs())
            wide = near.double().abs() + off / share * (1 + 1e-9)
            fits = wide.to(kind)
            return near, torch.where(off > 0, up(fits), fits)

        pairs = {s: rounded(w, self.sizes[s]) for s, w in self.weights.items()}
        bias, bias_size = rounded(self.bias, self.bias_size)
        weights = {s: near for s, (near, _) in pairs.items()}
        return Map(
            weights, bias, {s: size for s, (_, size) in pairs.items()}, bias_size, self.terms
        )

    def errors(self) -> tuple[dict[int, Tensor], Tensor]:
        """What weights and bias are off by at most."""
        share = gamma(self.terms) * (1 + 1e-9)
        off = {s: share * (size - self.weights[s].abs()) for s, size in self.sizes.items()}
        return off, share * (self.bias_size - self.bias.abs())

    def only(self, entries: Tensor) -> Map:
        """Some of its rows."""
        return Map(
            {s: w[entries] for s, w in self.weights.items()},
            self.bias[entries],
            {s: w[entries] for s, w in self.sizes.items()},
            self.bias_size[entries],
            self.terms,
        )


@dataclass(frozen=True, eq=False)
class Layer:
    """A curve on its open entries.

    Attributes:
        node: the curve.
        map: what it reads.
    """

    node: Node
    map: Map


@dataclass(eq=False)
class Dense:
    """The network on one box.

    Attributes:
        free: which of the flat inputs are source 0, ``(n0,)``.
        depth: layers there may be at most.
        layers: curve k is source k + 1.
        output: the map of the flat output.
        neurons: entries of curves that were open on the whole box.
    """

    free: Tensor
    depth: int
    layers: list[Layer] = field(default_factory=list)
    output: Map | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrices."""
        return torch.float64 if self.output is None else self.output.bias.dtype

    def to(self, kind: torch.dtype) -> Dense:
        """In another precision, see `Map.to`."""
        layers = [Layer(layer.node, layer.map.to(kind)) for layer in self.layers]
        return Dense(
            self.free, self.depth, layers, None if self.output is None else self.output.to(kind)
        )

    @property
    def neurons(self) -> int:
        """Open entries of all curves."""
        return sum(len(layer.map.bias) for layer in self.layers)

    @property
    def numbers(self) -> int:
        """Entries of all matrices."""
        return sum(w.numel() for layer in self.layers for w in layer.map.weights.values())

    @property
    def widest(self) -> int:
        """Of all sources."""
        return max([1, len(self.free), *(len(layer.map.bias) for layer in self.layers)])


Sides = Callable[[Dense, Map], tuple[Tensor, Tensor]]
"""Bounds ``(n,)`` of a map on the box the network is made for, no rounding left out."""


def dense(graph: Graph, lower: Tensor, upper: Tensor, sides: Sides) -> Dense | None:
    """The network on a box; None where it is too large, or has operators that are no such curves.

    Args:
        graph: from `prepare`, in float64.
        lower, upper: the box, flat: ``(n,)``.
        sides: bounds what a curve reads, so that settled ReLUs vanish.
    """
    if any(node.op not in (INPUT, CONSTANT, *AFFINE, *CURVES) for node in graph):
        return None
    free, depth = (lower < upper).nonzero().squeeze(1), sum(n.op in CURVES for n in graph)
    return _Maker(graph, Dense(free, depth), lower, sides).made()


@dataclass(frozen=True, eq=False)
class _Part:
    """Coefficients of one source ``(size, *shape)``; what they may be off by (None: nothing)."""

    value: Tensor
    error: Tensor | None = None


@dataclass(frozen=True, eq=False)
class _Expression:
    parts: dict[int, _Part]
    constant: _Part  # of size 1


class _Maker:
    def __init__(self, graph: Graph, network: Dense, fixed: Tensor, sides: Sides) -> None:
        self._graph, self._network, self._sides = graph, network, sides
        self._fixed = fixed
        self._numbers = 0

    def made(self) -> Dense | None:
        """All nodes in order; None as soon as it grows too large."""
        left = {name: len(readers) for name, readers in self._graph.readers().items()}
        found: dict[str, _Expression] = {}
        for node in self._graph:
            size = sum(self._height(found[name]) for name in node.inputs) * prod(node.shape)
            if size > MOST_NUMBERS or self._numbers > MOST_NUMBERS:
                return None
            found[node.name] = self._expression(node, [found[name] for name in node.inputs])
            for name in node.inputs:
                left[name] -= 1
                if not left[name] and name != self._graph.output:
                    found.pop(name, None)
        self._network.output = _map(found[self._graph.output])
        return self._network

    @staticmethod
    def _height(expression: _Expression) -> int:
        return 1 + sum(len(part.value) for part in expression.parts.values())

    def _expression(self, node: Node, inputs: list[_Expression]) -> _Expression:
        if node.op == INPUT:
            return self._input(node)
        if node.op == CONSTANT:
            value = node.tensors["value"].double().unsqueeze(0)
            return _Expression({}, _Part(value))
        return _affine(node, inputs) if node.op in AFFINE else self._curve(node, inputs[0])

    def _input(self, node: Node) -> _Expression:
        free, numbers = self._network.free, self._fixed.numel()
        unit = torch.zeros(len(free), numbers, dtype=torch.float64)
        unit[torch.arange(len(free)), free] = 1.0
        rest = self._fixed.clone()
        rest[free] = 0.0
        return _Expression(
            {0: _Part(unit.reshape(-1, *node.shape))}, _Part(rest.reshape(1, *node.shape))
        )

    def _curve(self, node: Node, source: _Expression) -> _Expression:
        """Settled entries of a ReLU pass on what they read, or nothing; the others are a source."""
        whole = _map(source)
        lower, upper = self._sides(self._network, whole)
        settled = (lower >= 0) | (upper <= 0)
        if node.op != "relu":
            settled = torch.zeros_like(settled)
        on = (settled & (lower >= 0)).to(torch.float64).reshape(1, *node.shape)
        parts = {s: _masked(part, on) for s, part in source.parts.items()}
        entries = (~settled).nonzero().squeeze(1)
        if len(entries):
            if len(entries) * len(settled) > MOST_NUMBERS:
                self._numbers = MOST_NUMBERS + 1  # the next node will notice
                entries = entries[:1]
            layer = Layer(node, whole.only(entries))
            self._network.layers.append(layer)
            self._numbers += sum(w.numel() for w in layer.map.weights.values())
            unit = torch.zeros(len(entries), len(settled), dtype=torch.float64)
            unit[torch.arange(len(entries)), entries] = 1.0
            parts[len(self._network.layers)] = _Part(unit.reshape(-1, *node.shape))
        return _Expression(parts, _masked(source.constant, on))


def _masked(part: _Part, mask: Tensor) -> _Part:
    return _Part(part.value * mask, None if part.error is None else part.error * mask)


def _affine(node: Node, inputs: list[_Expression]) -> _Expression:
    row = rows.get(node.op)
    if not isinstance(row, Affine):
        raise TypeError(f"{node.op} is not affine")
    sources = sorted({s for expression in inputs for s in expression.parts})
    parts = {}
    for s in sources:
        size = next(len(e.parts[s].value) for e in inputs if s in e.parts)
        parts[s] = _through(node, row, [e.parts.get(s) for e in inputs], size)
    constant = _through(node, row, [e.constant for e in inputs], 1)
    shift = offset(node, constant.value)
    if bool(shift.any()):
        error = constant.error
        if bool(constant.value.any()) or roundings(node):
            loss = gamma(2 + roundings(node)) * (constant.value.abs() + shift.abs())
            error = loss if error is None else error + loss
        constant = _Part(constant.value + shift, error)
    kept = {s: part for s, part in parts.items() if part.error is not None or part.value.any()}
    return _Expression(kept, constant)


def _through(node: Node, row: Affine, parts: list[_Part | None], size: int) -> _Part:
    """The linear part of an operator on each coefficient."""
    like = next(part.value for part in parts if part is not None)
    zeros = [like.new_zeros(size, *shape) for shape in node.attributes["inputs"]]
    values = [
        z if p is None else p.value.expand(z.shape) for p, z in zip(parts, zeros, strict=True)
    ]
    found = row.linear(node, *values).expand(size, *node.shape)
    errors = [
        z if p is None or p.error is None else p.error.expand(z.shape)
        for p, z in zip(parts, zeros, strict=True)
    ]
    error = None
    if any(part is not None and part.error is not None for part in parts):
        error = magnitude(node, errors)
    if node.op not in MOVES and (roundings(node) or not _picks(values)):
        loss = gamma(lengths(node)[0]) * magnitude(node, [value.abs() for value in values])
        error = loss if error is None else error + loss
    return _Part(found, None if error is None else error.expand(found.shape))


def _picks(values: list[Tensor]) -> bool:
    """Whether every coefficient is read at one place at most, and is one: then nothing rounds."""
    count = sum((value != 0).flatten(1).sum(1) for value in values)
    ones = all(bool(((value == 0) | (value == 1)).all()) for value in values)
    return ones and bool((torch.as_tensor(count) <= 1).all())


def _map(expression: _Expression) -> Map:
    parts, constant = expression.parts, expression.constant
    return sized(
        {s: part.value.flatten(1).T for s, part in parts.items()},
        {s: p.error.flatten(1).T for s, p in parts.items() if p.error is not None},
        constant.value.flatten(),
        None if constant.error is None else constant.error.flatten(),
    )


def sized(
    weights: Mapping[int, Tensor],
    errors: Mapping[int, Tensor],
    bias: Tensor,
    bias_error: Tensor | None,
) -> Map:
    """A map from its matrices and what they may be off by (left out: nothing), in float64."""
    terms = sum(weight.shape[1] for weight in weights.values()) + 4
    share = gamma(terms)

    def size(value: Tensor, error: Tensor | None) -> Tensor:
        found = value.abs()
        return found if error is None else found + error / share * (1 + 1e-9)

    return Map(
        {s: weight.contiguous() for s, weight in weights.items()},
        bias,
        {s: size(weight, errors.get(s)).contiguous() for s, weight in weights.items()},
        size(bias, bias_error),
        terms,
    )
