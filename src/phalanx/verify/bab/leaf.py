"""A sub-problem in which every ReLU is decided: the network is affine, and a program settles it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from phalanx.graph.ir import Graph
from phalanx.graph.run import execute
from phalanx.specs.property import Case
from phalanx.verify.bab.splits import Units

TOLERANCE = 1e-6
"""By how much the least value must be above zero, as the solver's own tolerance is 1e-7."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """What a program says.

    Attributes:
        lower: the least value of the largest row; infinite where no input has these signs; minus
            infinity where the solver failed.
        point: a flat input where it is met, or None.
    """

    lower: float
    point: Tensor | None


def settled(graph: Graph, case: Case, units: Units, signs: Tensor) -> Leaf:
    """The least value of the case's largest row where all units have signs ``(T,)``.

    Args:
        graph: from `prepare`, in float64.
        case: its box and its rows.
        units: the open ReLUs; all others have the sign that their boxes say.
        signs: 1 or -1.
    """
    free = (case.lower < case.upper).nonzero().squeeze(1)
    base = case.lower.clone()
    points = base.repeat(len(free) + 1, 1)
    points[torch.arange(len(free)) + 1, free] = case.upper[free]
    width = (case.upper - case.lower)[free]
    values = _affine(graph, units, signs, points.reshape(-1, *graph.input.shape))
    y = values[graph.output].flatten(1) @ case.outputs.T + case.offset
    if case.inputs is not None:
        y = y + points @ case.inputs.T
    z = y.new_zeros(len(y), 0)
    if len(units):
        z = units.gathered({node.name: values[node.inputs[0]] for node in units.nodes})
    # Variables: how far every input is on its way from below to above, and the largest row.
    rows = torch.cat([(y[1:] - y[0]).T, -torch.ones(len(case.offset), 1)], 1)
    sides = torch.cat([-((z[1:] - z[0]) * signs).T, torch.zeros(len(signs), 1)], 1)
    ends = torch.cat([-y[0], z[0] * signs])
    found = linprog(
        np.append(np.zeros(len(width)), 1.0),
        torch.cat([rows, sides]).numpy(),
        ends.numpy(),
        bounds=[(0.0, 1.0)] * len(width) + [(None, None)],
        method="highs",
    )
    if found.status == 2:
        return Leaf(float("inf"), None)
    if found.status != 0 or found.fun is None or found.x is None or not np.isfinite(found.fun):
        return Leaf(float("-inf"), None)
    point = base.clone()
    point[free] = base[free] + torch.from_numpy(found.x[:-1]) * width
    return Leaf(float(found.fun), point.clamp(case.lower, case.upper))


def _affine(graph: Graph, units: Units, signs: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Values of all nodes where every ReLU passes on what it reads, or nothing."""
    spread = units.spread(signs.double()[None])
    nodes = []
    for node in graph:
        if node.op != "relu":
            nodes.append(node)
            continue
        low, _ = units.boxes[node.inputs[0]]
        on = (low[0] >= 0).double()
        if node.name in spread:
            on = torch.where(spread[node.name][0] == 0, on, (spread[node.name][0] > 0).double())
        nodes.append(replace(node, op="scale", tensors={"weight": on}))
    return execute(Graph(tuple(nodes), graph.output), x, lambda node: node, keep=True)
