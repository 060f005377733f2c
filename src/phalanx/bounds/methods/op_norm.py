"""Operator norms: how fast margins can fall by the product of all layers' norms."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.lipschitz.product import rates
from phalanx.bounds.methods.interval import interval
from phalanx.bounds.problem import Problem, methods
from phalanx.errors import GraphError
from phalanx.graph.run import run


@methods.register("op-norm")
def op_norm(problem: Problem) -> Tensor:
    """The value at the centre less what the whole network's constant can take.

    It is measured in the region's own norm and holds everywhere (Szegedy et al. 2014): nothing is
    cheaper, and little is looser. Where a layer has none, interval bounds are all there is.
    """
    try:
        steep = rates(problem.graph, problem.rows, problem.region.norm)
    except GraphError:
        return interval(problem)
    return from_centre(problem, steep, 1.0)


def from_centre(problem: Problem, steep: Tensor, longer: float) -> Tensor:
    """Rows at the centre, less what slopes ``(S, B)`` take on the way to the region's edge.

    Args:
        problem: whose rows are bounded.
        steep: in a norm that is at most so many times ``longer`` than the region's.
        longer: 1 where it is the region's own.
    """
    graph, region = problem.graph, problem.region
    centre, reach = region.centre, torch.as_tensor(region.eps)
    if region.norm == "linf":
        centre = (region.lower + region.upper) / 2
        reach = torch.maximum(region.upper - centre, centre - region.lower).flatten(1).amax(1)
    value = (problem.rows.flatten(2) * run(graph, centre).flatten(1)).sum(2)
    return value - (steep * reach * longer).to(value.dtype)
