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
    graph, region = problem.graph, problem.region
    try:
        steep = rates(graph, problem.rows, region.norm)
    except GraphError:
        return interval(problem)
    centre, reach = region.centre, torch.as_tensor(region.eps)
    if region.norm == "linf":
        centre = (region.lower + region.upper) / 2
        reach = torch.maximum(region.upper - centre, centre - region.lower).flatten(1).amax(1)
    value = (problem.rows.flatten(2) * run(graph, centre).flatten(1)).sum(2)
    return value - (steep * reach).to(value.dtype)
