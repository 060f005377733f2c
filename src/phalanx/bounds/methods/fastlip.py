"""FastLip (Weng et al. 2018): the change of margins by Jacobians, layer by layer in intervals."""

from __future__ import annotations

from torch import Tensor

from phalanx.bounds.lipschitz.local import FASTLIP
from phalanx.bounds.methods.lipschitz import by_slopes
from phalanx.bounds.problem import Problem, methods


@methods.register("fastlip")
def fastlip(problem: Problem) -> Tensor:
    """Cheapest of those by Jacobians; sharp in small balls, where most ReLUs have a known sign."""
    return by_slopes(problem, FASTLIP)
