"""The relaxation of a whole problem: a program for each element, minimised for each row.

What the program's multipliers say of ReLUs is told to the problem's trace: they are the best slopes
of alpha-CROWN over the same boxes (Salman et al. 2019), so bounds that rest on nothing but lines
can be checked again with roundings counted like those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.problem import Problem
from phalanx.bounds.programs.cuts import Cuts
from phalanx.bounds.programs.encode import Encoding, encode
from phalanx.bounds.programs.matrices import Matrices
from phalanx.bounds.programs.program import Floats, Forms, stacked
from phalanx.bounds.programs.slopes import Told, tell
from phalanx.bounds.programs.solver import Solver, Status
from phalanx.bounds.region import Region

ALL_ROUNDS = 64
"""As many as find cuts, hardly ever so many: who decides stops at a bound above zero, and has not
the cuts that were added for other rows."""

BALL_ROUNDS = 8
"""Tangents that steer a program into an l1 or l2 ball; its bounds use the ball itself."""

Separator = Callable[[Encoding, Floats], list[Cuts]]
"""Cuts that a point ``(columns,)`` of the program does not satisfy."""

Separators = Callable[[Engine, int], Sequence[tuple[Separator, int]]]
"""Of one element of a batch: separators, and for how many rounds each is asked."""


def relaxed(problem: Problem, separators: Separators | None = None) -> Tensor:
    """Lower bounds ``(S, B)``, never below CROWN's over the same boxes.

    Boxes, programs and bounds are in double precision, whatever the problem is in. Where it is to
    be decided only, programs are solved for rows that CROWN leaves at or below zero, the lowest
    first, until one stays there.

    Raises:
        MissingDependencyError: highspy is not installed. GraphError: a program that is too large.
    """
    kind = problem.rows.dtype
    wide = replace(
        problem,
        graph=problem.graph.to(torch.float64),
        region=problem.region.to(torch.float64),
        rows=problem.rows.double(),
    )
    with torch.no_grad():
        engine = wide.engine(Settings())
        engine.bound_all()
        begun = engine.least({wide.graph.output: wide.rows}, None).fmax(wide.by_boxes(engine))
        found, matrices = begun.clone(), Matrices()
        for element in range(len(wide.region)):
            if not (order := problem.asked(begun[:, element])):
                continue
            kept = wide.region.norm != "linf"
            encoding = encode(wide.graph, engine.boxes, element, kept=kept, matrices=matrices)
            asked = [*_balls(wide.region.element(element))]
            asked += separators(engine, element) if separators else ()
            if problem.decide:
                asked = [(separator, ALL_ROUNDS) for separator, _ in asked]
            solver = Solver(encoding.program, problem.options.seconds, wide.region.element(element))
            added: list[Cuts] = []
            for row in order:
                coefficients = wide.rows[row, element].reshape(-1).numpy()
                cost = encoding.cost(wide.graph.output, coefficients)
                enough = 0.0 if problem.decide else math.inf
                told = least_with_cuts(encoding, solver, cost, asked, added, enough=enough)
                found[row, element] = max(float(found[row, element]), told.solution.bound)
                tell(wide, engine, told, (row, element))
                if problem.ends(found[row, element], row, element):
                    break
    return found.to(kind)


def least_with_cuts(
    encoding: Encoding,
    solver: Solver,
    cost: tuple[Floats, float],
    separators: Sequence[tuple[Separator, int]],
    added: list[Cuts],
    *,
    enough: float = math.inf,
) -> Told:
    """The best answer while cuts are added.

    Args:
        encoding: a network.
        solver: of its program; cuts stay in it.
        cost: costs and a constant.
        separators: and for how many rounds each is asked.
        added: all cuts that are in the solver, in order; grows.
        enough: a bound above this is not made better.
    """
    best: Told | None = None
    turn = 0
    while True:
        solution = solver.least(*cost)
        if best is None or solution.bound > best.solution.bound:
            best = Told(encoding, solver.program, cost[0], solution, tuple(added))
        if solution.empty:
            return Told(encoding, solver.program, cost[0], solution, tuple(added))
        if solution.status is not Status.OPTIMAL or solution.point is None:
            return best
        if best.solution.bound > enough:
            return best
        cuts: list[Cuts] = []
        for separator, rounds in separators:
            if turn < rounds:
                cuts += separator(encoding, solution.point)
        turn += 1
        if not cuts:
            return best
        add_cuts(solver, cuts)
        added += cuts


def add_cuts(solver: Solver, cuts: Sequence[Cuts]) -> None:
    """Their rows, one after the other."""
    if not cuts:
        return
    forms = stacked([part.forms for part in cuts])
    most = np.concatenate([part.most for part in cuts]) - forms.offset
    solver.add(forms.matrix, np.full(len(most), -np.inf), most)


def _balls(region: Region) -> list[tuple[Separator, int]]:
    """Tangents of an l1 or l2 ball, at where the point left it."""
    if region.norm == "linf":
        return []
    centre = region.centre.reshape(-1).numpy()

    def separate(encoding: Encoding, point: Floats) -> list[Cuts]:
        away = point[: encoding.inputs] - centre
        length = float(np.linalg.norm(away, ord=2 if region.norm == "l2" else 1))
        if length <= region.eps * (1 + 1e-6):
            return []
        tangent = away / length if region.norm == "l2" else np.sign(away)
        most = np.array([region.eps + tangent @ centre])
        inputs = Forms.of_columns(np.arange(encoding.inputs), encoding.program.columns)
        return [Cuts(inputs.through(csr_array(tangent[None])), most)]

    return [(separate, BALL_ROUNDS)]
