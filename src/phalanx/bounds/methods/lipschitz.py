"""Local Lipschitz bounds: Jacobians of the kind that the option ``jacobians`` names."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.engine import Settings
from phalanx.bounds.lipschitz.local import least_by_slopes
from phalanx.bounds.problem import Problem, methods
from phalanx.errors import GraphError


@methods.register("lipschitz", reads=("jacobians",))
def lipschitz(problem: Problem) -> Tensor:
    """The value at the centre less what the largest slopes can take; never below interval bounds.

    Boxes are CROWN's. Where an operator's slopes are not known, interval bounds are all there is.
    """
    return by_slopes(problem, problem.options.jacobians)


def by_slopes(problem: Problem, kind: str) -> Tensor:
    """`lipschitz` with Jacobians of one kind."""
    engine = problem.engine(Settings())
    engine.bound_all()
    found = problem.by_boxes(engine)
    try:
        return found.fmax(least_by_slopes(engine, problem.rows, kind))
    except GraphError:
        return found
