"""Local Lipschitz bounds: Jacobians by intervals (Weng et al. 2018; Zhang et al. 2019)."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.engine import Settings
from phalanx.bounds.lipschitz.local import least_by_slopes
from phalanx.bounds.problem import Problem, methods
from phalanx.errors import GraphError


@methods.register("lipschitz")
def lipschitz(problem: Problem) -> Tensor:
    """The value at the centre less what the largest slopes can take; never below interval bounds.

    Boxes are CROWN's. Where an operator's slopes are not known, interval bounds are all there is.
    """
    engine = problem.engine(Settings())
    engine.bound_all()
    found = problem.by_boxes(engine)
    try:
        return found.fmax(least_by_slopes(engine, problem.rows))
    except GraphError:
        return found
