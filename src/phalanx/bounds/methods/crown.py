"""CROWN (Zhang et al. 2018), which is DeepPoly (Singh et al. 2019): linear bounds, backward."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.engine import Settings
from phalanx.bounds.problem import Problem, methods


@methods.register("crown")
def crown(problem: Problem) -> Tensor:
    """Boxes in between by backward passes too, cut with intervals; at least as good as these."""
    return linear(problem, Settings())


def linear(problem: Problem, settings: Settings) -> Tensor:
    """A backward pass for the rows over boxes as the settings say; never below interval bounds."""
    return torch.cat([_bounded(part, settings) for part in problem.parts()], 1)


def _bounded(problem: Problem, settings: Settings) -> Tensor:
    engine = problem.engine(settings)
    engine.bound_all()
    if settings == Settings():
        problem.trace.add(engine.boxes, len(problem.region))
    found = engine.least({problem.graph.output: problem.rows}, None)
    return found.fmax(problem.by_boxes(engine))
