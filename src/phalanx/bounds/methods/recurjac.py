"""RecurJac (Zhang et al. 2019): the change of margins by Jacobians, several layers at once."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.lipschitz.local import RECURJAC
from phalanx.bounds.methods.lipschitz import by_slopes
from phalanx.bounds.problem import Problem, methods


@methods.register("recurjac")
def recurjac(problem: Problem) -> Tensor:
    """Never below ``fastlip``; a pass for every input and every open entry in between."""
    return by_slopes(problem, RECURJAC)
