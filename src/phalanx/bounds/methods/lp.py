"""The linear program of all single-neuron relaxations (Ehlers 2017; Wong & Kolter 2018)."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.problem import Problem, methods
from phalanx.bounds.programs.relax import relaxed


@methods.register("lp")
def lp(problem: Problem) -> Tensor:
    """The best that lines on CROWN's boxes can prove; each bound is computed from multipliers.

    On networks of ReLUs this is what alpha-CROWN converges to over the same boxes.

    Raises:
        MissingDependencyError: highspy is not installed. GraphError: a network that is too large.
    """
    return relaxed(problem)
