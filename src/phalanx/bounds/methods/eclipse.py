"""ECLipsE-Fast: how fast margins can fall by one constant of the whole network, in l2."""

from __future__ import annotations

import math

from torch import Tensor

from phalanx.bounds.lipschitz.eclipse import eclipse_rates
from phalanx.bounds.methods.interval import interval
from phalanx.bounds.methods.op_norm import from_centre
from phalanx.bounds.problem import Problem, methods
from phalanx.errors import GraphError


@methods.register("eclipse")
def eclipse(problem: Problem) -> Tensor:
    """ECLipsE-Fast (Xu & Sivaranjani 2024): as `op-norm`, by a tighter constant of dense chains.

    It is of the l2 norm: a ball of l1 lies in one as large, one of l_inf in one sqrt(n) as large.
    Of other networks than dense chains interval bounds are all there is.
    """
    region = problem.region
    try:
        steep = eclipse_rates(problem.graph, problem.rows.flatten(2))
    except GraphError:
        return interval(problem)
    numbers = region.centre[0].numel()
    return from_centre(problem, steep, math.sqrt(numbers) if region.norm == "linf" else 1.0)
