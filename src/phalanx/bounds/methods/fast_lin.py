"""Fast-Lin (Weng et al. 2018): CROWN with parallel lines."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.engine import Settings
from phalanx.bounds.methods.crown import linear
from phalanx.bounds.problem import Problem, methods


@methods.register("fast-lin")
def fast_lin(problem: Problem) -> Tensor:
    """The lower line of a ReLU has the slope of the upper one."""
    return linear(problem, Settings(parallel=True))
