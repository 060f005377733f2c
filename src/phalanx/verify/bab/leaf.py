"""A sub-problem in which every ReLU is decided: the network is affine, and a program settles it.

The program only proposes: its multipliers are shares of the case's rows and multipliers of signs,
which the backward pass of `phalanx.verify.bab.outward` weighs with every rounding counted, as it
does what an ascent found. (`phalanx.bounds.programs` would write a column for every unit, needs an
optional package, and its multipliers belong to rows of its own.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from phalanx.graph.ir import Graph
from phalanx.graph.run import execute
from phalanx.specs.property import Case
from phalanx.verify.bab.splits import Units


@dataclass(frozen=True, eq=False)
class Leaf:
    """What a program says; none of it is proof.

    Attributes:
        beta: multipliers of the signs, ``(T,)``.
        shares: of the case's rows, ``(J,)``.
        point: a flat input where the largest of all rows and of what signs are missed by is least;
            None where the solver failed.
    """

    beta: Tensor
    shares: Tensor
    point: Tensor | None


def solved(graph: Graph, case: Case, units: Units, signs: Tensor) -> Leaf:
    """The least, over the box, of the largest of ``rows`` and ``- signs z``, units having signs.

    It is above zero exactly where no counterexample has these signs, whether for its rows or
    because no input has them; and then the multipliers show it (Farkas's lemma).

    Args:
        graph: from `prepare`, in float64.
        case: its box and its rows.
        units: the open ReLUs; all others have the sign that their boxes say.
        signs: 1 or -1, ``(T,)``.
    """
    from scipy.optimize import linprog  # a tenth of what the command takes to start

    free = (case.lower < case.upper).nonzero().squeeze(1)
    base = case.lower.clone()
    points = base.repeat(len(free) + 1, 1)
    points[torch.arange(len(free)) + 1, free] = case.upper[free]
    width = (case.upper - case.lower)[free]
    values = _affine(graph, units, signs, points.reshape(-1, *graph.input.shape))
    y = values[graph.output].flatten(1) @ case.outputs.T + case.offset
    if case.inputs is not None:
        y = y + points @ case.inputs.T
    missed = y
    if len(units):
        z = units.gathered({node.name: values[node.inputs[0]] for node in units.nodes})
        missed = torch.cat([y, -z * signs], 1)
    # Variables: how far every input is on its way from below to above, and the largest of all.
    rows = torch.cat([(missed[1:] - missed[0]).T, -torch.ones(missed.shape[1], 1)], 1)
    found = linprog(
        np.append(np.zeros(len(width)), 1.0),
        rows.numpy(),
        -missed[0].numpy(),
        bounds=[(0.0, 1.0)] * len(width) + [(None, None)],
        method="highs",
    )
    count = len(case.offset)
    if found.status != 0 or found.x is None:
        return Leaf(torch.zeros(len(signs)).double(), torch.ones(count).double() / count, None)
    weights = torch.from_numpy(-np.asarray(found.ineqlin.marginals, dtype=np.float64))
    point = base.clone()
    point[free] = base[free] + torch.from_numpy(found.x[:-1]) * width
    return Leaf(weights[count:], weights[:count], point.clamp(case.lower, case.upper))


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
