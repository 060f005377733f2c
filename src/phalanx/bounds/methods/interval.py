"""Interval bounds (Gowal et al. 2018), the last layer merged with what is asked of it."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.engine import Settings
from phalanx.bounds.problem import Problem, methods


@methods.register("interval")
def interval(problem: Problem) -> Tensor:
    """One forward pass of boxes."""
    engine = problem.engine(Settings(backward=False))
    engine.bound_all()
    return problem.by_boxes(engine)
