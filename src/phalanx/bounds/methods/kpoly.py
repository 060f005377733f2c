"""k-ReLU (Singh et al. 2019): the linear program with hulls of two or three ReLUs at once."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.engine import Engine
from phalanx.bounds.methods.lp import cutting
from phalanx.bounds.problem import Problem, methods
from phalanx.bounds.programs.group_cuts import group_cuts
from phalanx.bounds.programs.relax import Separator, relaxed

ROUNDS = 6
"""In which the most violated side of every group's hull is added."""


@methods.register("kpoly", reads=("group", "cuts", "seconds"), above="lp")
def kpoly(problem: Problem) -> Tensor:
    """As `lp`, and sides of hulls of ``group`` ReLUs where the program's point violates them.

    Raises:
        MissingDependencyError, GraphError: as `lp`.
    """
    count, others = problem.options.group, cutting(problem)

    def separators(engine: Engine, element: int) -> list[tuple[Separator, int]]:
        more = others(engine, element) if others is not None else ()
        return [(group_cuts(engine, element, count), ROUNDS), *more]

    return relaxed(problem, separators)
