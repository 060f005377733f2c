"""A network on one box as matrices between its open ReLUs: all else is affine there.

With ``z`` what the T open units read, ``h = relu(z)``, and x the inputs that can move,

    z = P x + Q h + b,    rows = R x + S h + c,

Q zero but for what earlier layers give to later ones. Sub-problems of branch and bound are then
bounded by products with few and small matrices, whatever the network looks like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from phalanx.bounds.ops import Row
from phalanx.bounds.ops import rows as table
from phalanx.graph.ir import INPUT, Graph
from phalanx.specs.property import Case
from phalanx.verify.bab.splits import Units
from phalanx.verify.outcome import Clock, OutOfTime

NUMBERS_AT_ONCE = 1 << 22
"""Coefficients of one backward pass."""


@dataclass(frozen=True, eq=False)
class Forms:
    """Affine functions of the inputs that can move and of what open units answer.

    Attributes:
        inputs: ``(N, n)``.
        units: ``(N, T)``.
        shift: ``(N,)``.
    """

    inputs: Tensor
    units: Tensor
    shift: Tensor

    def to(self, kind: torch.dtype) -> Forms:
        """In another precision."""
        return Forms(*(getattr(self, part.name).to(kind) for part in fields(self)))


@dataclass(frozen=True, eq=False)
class Compact:
    """What open units read, on one box.

    Attributes:
        free: the inputs that can move, ``(n,)`` into the flat input.
        lower, upper: their box, ``(n,)``.
        layers: where each layer's units begin and end.
        read: what they read, by layers: ``Q`` is zero from their own layer on.
        low, high: bounds of that, ``(T,)``.
    """

    free: Tensor
    lower: Tensor
    upper: Tensor
    layers: tuple[tuple[int, int], ...]
    read: Forms
    low: Tensor
    high: Tensor

    def to(self, kind: torch.dtype) -> Compact:
        """In another precision."""
        sides = {n: getattr(self, n).to(kind) for n in ("lower", "upper", "low", "high")}
        return replace(self, read=self.read.to(kind), **sides)


def compact(graph: Graph, case: Case, units: Units, clock: Clock | None = None) -> Compact:
    """The network on a case's box.

    Args:
        graph: from `prepare`, in float64, of affine operators and ReLUs.
        case: whose box it is.
        units: the ReLUs that are open on it.
        clock: looked at between passes.

    Raises:
        OutOfTime: the clock ran out.
    """
    free = (case.lower < case.upper).nonzero().squeeze(1)
    parts, layers, at = [], [], 0
    for node, entries in zip(units.nodes, units.entries, strict=True):
        source = graph[node.inputs[0]]
        numbers = torch.Size(source.shape).numel()
        widest = max(torch.Size(n.shape).numel() for n in graph)
        for some in entries.split(max(1, NUMBERS_AT_ONCE // widest)):
            if clock is not None and clock.expired():
                raise OutOfTime
            rows = torch.zeros(len(some), numbers, dtype=torch.float64)
            rows[torch.arange(len(some)), some] = 1.0
            begun = {source.name: rows.reshape(-1, 1, *source.shape)}
            parts.append(through(graph, case, units, begun))
        layers.append((at, at + len(entries)))
        at += len(entries)
    low = high = torch.zeros(0, dtype=torch.float64)
    if len(units):
        low, high = units.sides(torch.float64)
    read = _stacked(parts, len(free), len(units))
    return Compact(free, case.lower[free], case.upper[free], tuple(layers), read, low, high)


def rows_of(graph: Graph, case: Case, units: Units) -> Forms:
    """The case's rows as such forms."""
    begun = {graph.output: case.outputs.reshape(-1, 1, *graph[graph.output].shape)}
    if case.inputs is not None:
        own = case.inputs.reshape(-1, 1, *graph.input.shape)
        name = graph.input.name
        begun[name] = begun[name] + own if name in begun else own
    found = through(graph, case, units, begun)
    return Forms(found.inputs, found.units, found.shift + case.offset)


def through(graph: Graph, case: Case, units: Units, begun: Mapping[str, Tensor]) -> Forms:
    """Rows ``(S, 1, *shape)`` of nodes, back to the inputs and to what open units answer."""
    count = len(next(iter(begun.values())))
    pending = dict(begun)
    shift = torch.zeros(count, dtype=torch.float64)
    answers = {node.name: entries for node, entries in zip(units.nodes, units.entries, strict=True)}
    met: dict[str, Tensor] = {}
    source = torch.zeros(count, case.lower.numel(), dtype=torch.float64)
    for node in reversed(graph.nodes):
        rows = pending.pop(node.name, None)
        if rows is None:
            continue
        if node.op == INPUT:
            source = rows.reshape(count, -1)
            continue
        if node.op == "relu":
            if node.name in answers:
                met[node.name] = rows.reshape(count, -1)[:, answers[node.name]]
            # What is not open is on or off all over the box.
            on = (units.boxes[node.inputs[0]].lower >= 0).to(rows.dtype)
            parts: list[Tensor] = [rows * on]
        else:
            row: Row = table.get(node.op)
            boxes = [units.boxes[name] for name in node.inputs]
            parts, constant = row.backward(node, boxes, rows)
            shift = shift if constant is None else shift + constant[:, 0]
        for name, part in zip(node.inputs, parts, strict=True):
            pending[name] = pending[name] + part if name in pending else part
    fixed = case.lower == case.upper
    shift = shift + source[:, fixed] @ case.lower[fixed]
    every = [
        met.get(node.name, source.new_zeros(count, len(entries)))
        for node, entries in zip(units.nodes, units.entries, strict=True)
    ]
    return Forms(source[:, ~fixed], torch.cat([source[:, :0], *every], 1), shift)


def _stacked(parts: list[Forms], inputs: int, units: int) -> Forms:
    if not parts:
        none = torch.zeros(0, dtype=torch.float64)
        return Forms(none.reshape(0, inputs), none.reshape(0, units), none)
    return Forms(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Forms)))
