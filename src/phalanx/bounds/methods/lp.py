"""The linear program of all single-neuron relaxations (Ehlers 2017; Wong & Kolter 2018)."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.problem import Problem, methods
from phalanx.bounds.programs.matrices import Matrices
from phalanx.bounds.programs.relax import Separators, relaxed
from phalanx.bounds.programs.sum_cuts import sum_cuts


@methods.register("lp", reads=("cuts", "seconds"), above="crown")
def lp(problem: Problem) -> Tensor:
    """The best that lines on CROWN's boxes can prove; each bound is computed from multipliers.

    On networks of ReLUs this is what alpha-CROWN converges to over the same boxes. With ``cuts`` it
    is better: that many times, cuts over whole sums are added (OptC2V).

    Raises:
        MissingDependencyError: highspy is not installed. GraphError: a network that is too large.
    """
    return relaxed(problem, cutting(problem))


def cutting(problem: Problem) -> Separators | None:
    """The separators that the problem's options ask for."""
    rounds, matrices = problem.options.cuts, Matrices()
    if not rounds:
        return None
    return lambda engine, element: [(sum_cuts(engine, matrices, element), rounds)]
