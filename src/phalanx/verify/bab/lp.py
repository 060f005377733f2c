"""Branch and bound on signs of ReLUs with a linear program at every node (Ehlers 2017; Bunel 2018).

The sub-problem with the least bound goes first, and is split at the unit whose relaxation
costs it most. With rounds of cuts each ReLU is relaxed to its convex hull over the box of what its
sum reads (Tjandraatmadja et al. 2020); the cuts that a program needed go on to those below it.

Bounds are computed from the solver's multipliers, and so is that a program is empty: what the
solver only says is not believed. The arithmetic is ``real``.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from phalanx.bounds.engine import Engine
from phalanx.bounds.outward.affine import AFFINE
from phalanx.bounds.planes import SumPlanes
from phalanx.bounds.programs.cuts import Cuts
from phalanx.bounds.programs.encode import Encoding, encode
from phalanx.bounds.programs.matrices import Matrices
from phalanx.bounds.programs.program import Floats
from phalanx.bounds.programs.relax import Separator, add_cuts, least_with_cuts
from phalanx.bounds.programs.slopes import Told
from phalanx.bounds.programs.solver import Solver, Status
from phalanx.bounds.programs.sum_cuts import sum_cuts
from phalanx.errors import SolverError
from phalanx.graph.ir import CONSTANT, INPUT
from phalanx.verdicts import Verdict
from phalanx.verify.bab.splits import Units, units
from phalanx.verify.engine import Task
from phalanx.verify.outcome import EXHAUSTED, TIMEOUT, Outcome, OutOfTime
from phalanx.verify.programs import asked, bounded, finite, unsafe

MOST_OPEN = 2000
"""Units that are worth a try."""

USED = 1e-9
"""Multiplier of a cut that a program needed."""


def split_with_programs(task: Task, name: str, rounds: int = 0) -> Outcome:
    """Search a case's box.

    Args:
        task: see `Task`.
        name: of the engine, for the outcome.
        rounds: of cuts, at every node.

    Raises:
        GraphError: an operator that is not bounded. MissingDependencyError: highspy is not
            installed. SolverError: the program of the whole box is empty.
    """
    try:
        engine = bounded(task)
    except OutOfTime:
        return Outcome(Verdict.UNKNOWN, TIMEOUT)
    other = next((n for n in engine.graph if n.op not in (INPUT, CONSTANT, "relu", *AFFINE)), None)
    if other is not None:
        return Outcome(Verdict.UNKNOWN, f"only ReLUs are split, and {other.name!r} is {other.op}")
    open_ = units(engine.graph, engine.boxes)
    if len(open_) > MOST_OPEN:
        return Outcome(Verdict.UNKNOWN, f"{len(open_)} open units are too many for {name}")
    return _Search(task, name, engine, open_, rounds).run()


@dataclass(frozen=True, eq=False)
class _Kept:
    """Planes ``y - slope x <= most`` that a program needed, each with weight 1."""

    planes: SumPlanes
    most: Floats

    def again(self, encoding: Encoding) -> Cuts:
        """As rows of another program of the same network."""
        planes = self.planes
        below = encoding.forms[planes.source].through(csr_array(planes.slopes.numpy()))
        answers = encoding.forms[planes.node].take(planes.entries.numpy())
        return Cuts(answers.minus(below), self.most, planes.weighed)


@dataclass(order=True)
class _Node:
    """A sub-problem.

    Attributes:
        bound: of the one it was cut from.
        turn: when it was made.
        signs: ``(1, T)``.
        kept: cuts that it begins with.
    """

    bound: float
    turn: int
    signs: Tensor = field(compare=False)
    kept: Sequence[_Kept] = field(compare=False, default=())


class _Search:
    def __init__(self, task: Task, name: str, engine: Engine, open_: Units, rounds: int) -> None:
        self.task, self.name, self.engine, self.units = task, name, engine, open_
        self.matrices, self.turns = Matrices(), count()
        self.separators: list[tuple[Separator, int]] = []
        if rounds:
            self.separators.append((sum_cuts(engine, self.matrices, 0), rounds))
        self.programs = self.stuck = 0
        self.lowest = float("inf")
        first = torch.zeros(1, len(open_), dtype=torch.float64)
        self.waiting = [_Node(-float("inf"), next(self.turns), first)]

    def run(self) -> Outcome:
        """Program by program until nothing waits."""
        clock, told = self.task.clock, self.task.told
        while self.waiting:
            if clock.expired():
                return self._outcome(Verdict.UNKNOWN, TIMEOUT)
            witness = self._solve(heapq.heappop(self.waiting))
            if witness is not None:
                return self._outcome(Verdict.FALSIFIED, self.name, witness)
            if told is not None:
                told({"domains": self.programs, "waiting": len(self.waiting)})
        if self.stuck:
            return self._outcome(Verdict.UNKNOWN, EXHAUSTED)
        return self._outcome(Verdict.VERIFIED, self.name)

    def _outcome(self, verdict: Verdict, reason: str, witness: Tensor | None = None) -> Outcome:
        stats = {"domains": self.programs, "waiting": len(self.waiting), "units": len(self.units)}
        bounds = [self.lowest, *(node.bound for node in self.waiting)]
        lower = None if witness is not None else finite(min(bounds))
        return Outcome(verdict, reason, witness, lower, stats)

    def _solve(self, node: _Node) -> Tensor | None:
        """Close a sub-problem or cut it in two; a counterexample on the way ends the search."""
        boxes = self.units.cut(node.signs, torch.float64)
        encoding = encode(self.engine.graph, boxes, kept=True, matrices=self.matrices)
        encoding, cost, constant = asked(self.task.case, self.engine, encoding)
        left = self.task.clock.left()
        solver = Solver(encoding.program, None if left == float("inf") else max(left, 0.01))
        begun = [kept.again(encoding) for kept in node.kept]
        add_cuts(solver, begun)
        told = least_with_cuts(
            encoding, solver, (cost, constant), self.separators, begun, enough=0.0
        )
        found = told.solution
        self.programs += 1
        if found.empty and not bool(node.signs.any()):
            raise SolverError(
                "the program of a network is empty by its multipliers",
                why="a network has a value wherever its box has a point",
            )
        if found.empty:
            return None
        bound = max(found.bound, node.bound)
        if bound > 0:
            self.lowest = min(self.lowest, bound)
            return None
        if found.status is Status.TIMEOUT:
            heapq.heappush(self.waiting, node)
            return None
        if found.point is not None:
            x = torch.from_numpy(found.point[: encoding.inputs]).double()
            x = x.clamp(self.task.case.lower, self.task.case.upper)
            if unsafe(self.task, x) and (self.task.confirm is None or self.task.confirm(x)):
                return x
        unit = self._worst(node, told)
        self._split(node, bound, unit, _needed(told))
        return None

    def _worst(self, node: _Node, told: Told) -> int | None:
        """The open unit whose relaxation costs the program most; None: all are decided.

        That is how far its value is from its ReLU, times what the bound pays for its upper rows.
        """
        undecided = node.signs[0] == 0
        if not bool(undecided.any()):
            return None
        encoding, point, multipliers = told.encoding, told.solution.point, told.solution.multipliers
        cost = torch.zeros(len(self.units), dtype=torch.float64)
        if point is not None and multipliers is not None:
            matrix = told.program.matrix
            paid = abs(matrix).T @ np.maximum(-multipliers, 0.0)[: matrix.shape[0]]
            parts = {}
            for unit in self.units.nodes:
                h, z = (_at(encoding, name, point) for name in (unit.name, unit.inputs[0]))
                force = torch.zeros_like(h)
                written = encoding.curves[unit.name]
                force[torch.from_numpy(written.entries)] = torch.from_numpy(paid[written.columns])
                parts[unit.name] = ((h - z.clamp_min(0)).abs() * force)[None]
            cost = self.units.gathered(parts)[0].nan_to_num(0.0)
        return int(torch.where(undecided, cost, -1.0).argmax())

    def _split(self, node: _Node, bound: float, unit: int | None, kept: Sequence[_Kept]) -> None:
        if unit is None:  # affine, and neither above zero nor wrong at its least point
            self.stuck += 1
            self.lowest = min(self.lowest, bound)
            return
        for sign in (1.0, -1.0):
            signs = node.signs.clone()
            signs[0, unit] = sign
            heapq.heappush(self.waiting, _Node(bound, next(self.turns), signs, kept))


def _at(encoding: Encoding, name: str, point: Floats) -> Tensor:
    """A node's value in the program at a point, flat."""
    forms = encoding.forms[name]
    return torch.from_numpy(forms.matrix @ point[: forms.matrix.shape[1]] + forms.offset)


def _needed(told: Told) -> list[_Kept]:
    """The cuts with multipliers."""
    found, multipliers, start = [], told.solution.multipliers, told.encoding.program.rows
    if multipliers is None or len(multipliers) != told.program.rows:
        return []
    for cuts in told.added:
        own = multipliers[start : start + len(cuts.most)] < -USED
        start += len(own)
        planes = None if cuts.plane is None else cuts.plane(own.astype(np.float64))
        if isinstance(planes, SumPlanes) and own.any():
            found.append(_Kept(planes, cuts.most[own]))
    return found
