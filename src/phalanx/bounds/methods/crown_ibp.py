"""CROWN-IBP (Zhang et al. 2020): interval bounds in between, one backward pass for the output."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.engine import Settings
from phalanx.bounds.methods.crown import linear
from phalanx.bounds.problem import Problem, methods


@methods.register("crown-ibp")
def crown_ibp(problem: Problem) -> Tensor:
    """Cheap, and what certified training uses."""
    return linear(problem, Settings(backward=False))
