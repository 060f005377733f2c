"""Planes with constants that hold in exact arithmetic, and the bound they give with their rows.

Where ``p(v) <= c`` for every run v, a function f is at least ``f + p - c``: rows of p are added to
those of f where they belong, and one backward pass bounds both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phalanx.bounds.outward.octahedra import directions, reach
from phalanx.bounds.outward.passes import Passes
from phalanx.bounds.outward.rounding import dot, gamma
from phalanx.bounds.outward.sums import Sums
from phalanx.bounds.outward.walk import Slopes
from phalanx.bounds.planes import GroupPlanes, Plane, SumPlanes


def least_with_planes(
    passes: Passes, row: Tensor, planes: Sequence[Plane], slopes: Slopes | None = None
) -> Tensor:
    """A lower bound ``(1,)`` of ``row . output`` over the region; minus infinity: none.

    Args:
        passes: of the region.
        row: ``(1, *output shape)``.
        planes: with any coefficients.
        slopes: of lines, ``(1, *shape)`` each.
    """
    sums, begun = Sums(1, row.dtype), {passes.graph.output: row}
    for plane in planes:
        parts = (
            _of_sums(passes, plane, sums)
            if isinstance(plane, SumPlanes)
            else _of_groups(passes, plane, sums)
        )
        for name, part in parts:
            if name in begun:
                begun[name] = begun[name] + part
                sums.lose(gamma(2), begun[name], passes.sides[name].most)
            else:
                begun[name] = part
    return passes.least_of(begun, sums, slopes)


def _of_sums(passes: Passes, plane: SumPlanes, sums: Sums) -> list[tuple[str, Tensor]]:
    """Of ``weight relu(z) - slope x`` the largest value: that of ``-slope x`` or of ``weight z -
    slope x``, both linear on the box of x.
    """
    graph = passes.graph.by_name()
    node, source = graph[plane.node], graph[plane.source]
    if node.op != "relu":
        raise ValueError(f"{node.op} is no ReLU")
    weights, slopes = plane.weights.double().clamp_min(0), plane.slopes.double()
    name, flat = node.inputs[0], torch.zeros(len(weights), passes.sides[node.name].lower.numel())
    unit = flat.double()
    unit[torch.arange(len(weights)), plane.entries] = weights
    rows = slopes.reshape(-1, *source.shape)
    off = passes.least_of({source.name: rows}, Sums(len(rows), rows.dtype), stop=source.name)
    begun = {name: -unit.reshape(-1, *node.shape), source.name: rows}
    on = passes.least_of(begun, Sums(len(rows), rows.dtype), stop=source.name)
    lowest = torch.minimum(off, on)  # of slope x - weight relu(z): the plane's constant, negated
    sums.add(*dot(torch.ones(1, len(rows), dtype=rows.dtype), lowest[None]))
    sums.lose(gamma(len(rows) + 1), rows.abs().sum(0, keepdim=True), passes.sides[source.name].most)
    found = torch.zeros(1, unit.shape[1], dtype=unit.dtype).index_put(
        (torch.zeros_like(plane.entries), plane.entries), weights, accumulate=False
    )
    return [
        (node.name, found.reshape(1, *node.shape)),
        (source.name, -rows.sum(0, keepdim=True)),
    ]


def _of_groups(passes: Passes, plane: GroupPlanes, sums: Sums) -> list[tuple[str, Tensor]]:
    """The largest value over an octahedron is met at a corner of one of its orthants' parts."""
    node = passes.graph.by_name()[plane.node]
    if node.op != "relu":
        raise ValueError(f"{node.op} is no ReLU")
    name, count = node.inputs[0], plane.entries.shape[1]
    side, ways = passes.sides[name], torch.from_numpy(directions(count))
    size = side.lower.numel()
    rows = torch.zeros(len(plane.entries), len(ways), size, dtype=torch.float64)
    rows.scatter_(
        2, plane.entries[:, None].expand(-1, len(ways), -1), ways.expand(len(rows), -1, -1)
    )
    flat = rows.reshape(-1, *node.shape)
    low = passes.least(name, flat).fmax(_by_box(passes, name, flat)).reshape(rows.shape[:2])
    high = -passes.least(name, -flat).fmax(_by_box(passes, name, -flat)).reshape(rows.shape[:2])
    arguments, answers = plane.arguments.double(), plane.answers.double()
    most = [
        reach(least.numpy(), greatest.numpy(), a.numpy(), b.numpy())
        for least, greatest, a, b in zip(low, high, arguments, answers, strict=True)
    ]
    constants = -torch.tensor([most], dtype=torch.float64)
    sums.add(*dot(torch.ones_like(constants), constants))
    parts = []
    for where, weights in ((name, arguments), (node.name, answers)):
        total = torch.zeros(size, dtype=torch.float64)
        total.index_add_(0, plane.entries.flatten(), weights.flatten())
        weight = torch.zeros(size, dtype=torch.float64)
        weight.index_add_(0, plane.entries.flatten(), weights.abs().flatten())
        shape = (1, *node.shape)
        sums.lose(gamma(len(rows) + 1), weight.reshape(shape), passes.sides[where].most)
        parts.append((where, total.reshape(shape)))
    return parts


def _by_box(passes: Passes, name: str, rows: Tensor) -> Tensor:
    return passes.least_of({name: rows}, Sums(len(rows), rows.dtype), stop=name)
