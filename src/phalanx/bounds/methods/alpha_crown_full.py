"""alpha-CROWN in full: see `phalanx.bounds.full`."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from phalanx.bounds.methods.alpha_crown import READS, alpha_crown
from phalanx.bounds.problem import Problem, methods


@methods.register("alpha-crown-full", reads=READS, above="crown")
def alpha_crown_full(problem: Problem) -> Tensor:
    """`alpha-crown` with ``layers="full"``, by a name of its own for those that choose by name."""
    return alpha_crown(replace(problem, options=replace(problem.options, layers="full")))
