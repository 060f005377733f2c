"""Sub-problems of branch and bound on ReLUs: which signs are decided, and what was learnt there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from phalanx.bounds.ops import Box
from phalanx.graph.ir import Graph, Node


@dataclass(frozen=True, eq=False)
class Units:
    """The ReLUs that are open on the whole box, in one row of T numbers.

    Attributes:
        nodes: the curves, in order.
        entries: for each the flat entries that are open, ``(t,)``.
        boxes: of all nodes on the whole box, ``(1, *shape)``; of a ReLU's input by its name too.
    """

    nodes: tuple[Node, ...]
    entries: tuple[Tensor, ...]
    boxes: Mapping[str, Box]

    def __len__(self) -> int:
        return sum(len(part) for part in self.entries)

    def spread(self, values: Tensor) -> dict[str, Tensor]:
        """``(D, T)`` as a tensor ``(D, *shape)`` for each curve, zero where nothing is open."""
        sizes = [len(part) for part in self.entries]
        found = {}
        parts = zip(self.nodes, self.entries, values.split(sizes, 1), strict=True)
        for node, entries, part in parts:
            flat = part.new_zeros(len(part), torch.Size(node.shape).numel())
            found[node.name] = flat.index_copy(1, entries, part).reshape(-1, *node.shape)
        return found

    def gathered(self, values: Mapping[str, Tensor]) -> Tensor:
        """The reverse: ``(D, T)`` of ``(D, *shape)``; zero for curves without a value."""
        some = next(iter(values.values()))
        parts = [
            values[node.name].flatten(1).index_select(1, entries)
            if node.name in values
            else some.new_zeros(len(some), len(entries))
            for node, entries in zip(self.nodes, self.entries, strict=True)
        ]
        return torch.cat(parts, 1)

    def sides(self, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds ``(T,)`` of what the units read."""
        pairs = [
            tuple(side.flatten(1)[0, entries].to(kind) for side in self.boxes[node.inputs[0]])
            for node, entries in zip(self.nodes, self.entries, strict=True)
        ]
        low, high = zip(*pairs, strict=True)
        return torch.cat(low), torch.cat(high)

    def cut(self, signs: Tensor, kind: torch.dtype) -> dict[str, Box]:
        """Boxes ``(D, *shape)`` of all nodes where units have signs ``(D, T)``.

        What a unit reads is not negative where it is on, and not positive where it is off.
        """
        count = len(signs)
        found = {}
        for name, box in self.boxes.items():
            low, high = (side.to(kind).expand(count, *side.shape[1:]) for side in box)
            found[name] = Box(low, high)
        spread = self.spread(signs.to(kind))
        for node in self.nodes:
            low, high = found[node.inputs[0]]
            sign = spread[node.name]
            low = torch.where(sign > 0, low.clamp_min(0), low)
            high = torch.where(sign < 0, high.clamp_max(0), high)
            found[node.inputs[0]] = Box(low, high)
        return found


def units(graph: Graph, boxes: Mapping[str, Box]) -> Units:
    """The open ReLUs of a graph on boxes of one element."""
    nodes, entries = [], []
    for node in graph:
        if node.op == "relu":
            low, high = boxes[node.inputs[0]]
            open_ = ((low < 0) & (high > 0)).flatten(1)[0].nonzero().squeeze(1)
            if len(open_):
                nodes.append(node)
                entries.append(open_)
    return Units(tuple(nodes), tuple(entries), boxes)


@dataclass(frozen=True, eq=False)
class Domains:
    """Sub-problems of one case, as a structure of arrays.

    Attributes:
        signs: ``(N, T)`` int8: 1 on, -1 off, 0 open.
        alpha: ``(N, T)`` float16: slopes below, to begin with.
        beta: ``(N, T)`` float16: multipliers of decided signs, to begin with.
        weights: ``(N, J)``: logarithms of the rows' shares in what is bounded.
        bound: ``(N,)``: a lower bound.
    """

    signs: Tensor
    alpha: Tensor
    beta: Tensor
    weights: Tensor
    bound: Tensor

    def __len__(self) -> int:
        return len(self.bound)

    def __getitem__(self, index: Tensor | slice) -> Domains:
        return Domains(*(getattr(self, part.name)[index] for part in fields(self)))


def together(*parts: Domains) -> Domains:
    """All of them, in order."""
    return Domains(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Domains)))


def root(count: int, alpha: Tensor, rows: int) -> Domains:
    """One domain in which nothing is decided, of so many units and rows."""
    none = torch.zeros(1, count)
    start = alpha[None].to(torch.float16)
    return Domains(
        none.to(torch.int8),
        start,
        none.to(torch.float16),
        torch.zeros(1, rows),
        torch.full((1,), -torch.inf),
    )


def halves(domains: Domains, at: Tensor) -> Domains:
    """Two for each: unit ``at`` ``(N,)`` on, then off; the second half of the answer is off."""
    here = torch.arange(len(domains))
    parts = []
    for sign in (1, -1):
        signs = domains.signs.clone()
        signs[here, at] = sign
        parts.append(Domains(signs, domains.alpha, domains.beta, domains.weights, domains.bound))
    return together(*parts)
