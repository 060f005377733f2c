"""Branch and bound on signs of ReLUs with a linear program at every node (Ehlers 2017; Bunel 2018).

The tightest bound of one ReLU at a time, and the dearest: what `branch-and-bound` does with linear
bounds on hundreds of sub-problems at once, this does with HiGHS on one after the other. It is here
to be compared with.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from phalanx.bounds.engine import Engine
from phalanx.bounds.outward.affine import AFFINE
from phalanx.bounds.programs.encode import Encoding, encode
from phalanx.bounds.programs.matrices import Matrices
from phalanx.bounds.programs.program import Floats
from phalanx.bounds.programs.solver import Solver, Status
from phalanx.graph.ir import CONSTANT, INPUT
from phalanx.verdicts import Verdict
from phalanx.verify.bab.splits import Units, units
from phalanx.verify.engine import Task, engines
from phalanx.verify.outcome import EXHAUSTED, TIMEOUT, Outcome, OutOfTime
from phalanx.verify.programs import asked, bounded, finite, unsafe

NAME = "branch-and-bound-lp"
MOST_OPEN = 2000
"""Units that are worth a try."""


@engines.register(NAME)
def branch_and_bound_lp(task: Task) -> Outcome:
    """The sub-problem with the least bound first; the unit that its program is furthest off at.

    Bounds are computed from the solver's multipliers; that a program is empty is the solver's word.
    The arithmetic is ``real``.

    Raises:
        GraphError: an operator that is not bounded. MissingDependencyError: highspy is not
            installed.
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
        return Outcome(Verdict.UNKNOWN, f"{len(open_)} open units are too many for {NAME}")
    return _Search(task, engine, open_).run()


@dataclass(order=True)
class _Node:
    """A sub-problem: its parent's bound, when it was made, and the signs ``(1, T)``."""

    bound: float
    turn: int
    signs: Tensor = field(compare=False)


class _Search:
    def __init__(self, task: Task, engine: Engine, open_: Units) -> None:
        self.task, self.engine, self.units = task, engine, open_
        self.matrices, self.turns = Matrices(), count()
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
                return self._outcome(Verdict.FALSIFIED, NAME, witness)
            if told is not None:
                told({"domains": self.programs, "waiting": len(self.waiting)})
        if self.stuck:
            return self._outcome(Verdict.UNKNOWN, EXHAUSTED)
        return self._outcome(Verdict.VERIFIED, NAME)

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
        found = solver.least(cost, constant)
        self.programs += 1
        if found.status is Status.INFEASIBLE:
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
        self._split(node, bound, self._furthest(node, encoding, found.point))
        return None

    def _furthest(self, node: _Node, encoding: Encoding, point: Floats | None) -> int | None:
        """The open unit whose value in the program is furthest from its ReLU; None: all decided."""
        undecided = node.signs[0] == 0
        if not bool(undecided.any()):
            return None
        gaps = torch.zeros(len(self.units), dtype=torch.float64)
        if point is not None:
            parts = {}
            for unit in self.units.nodes:
                h, z = (_at(encoding, name, point) for name in (unit.name, unit.inputs[0]))
                parts[unit.name] = (h - z.clamp_min(0)).abs()[None]
            gaps = self.units.gathered(parts)[0].nan_to_num(0.0)
        return int(torch.where(undecided, gaps, -1.0).argmax())

    def _split(self, node: _Node, bound: float, unit: int | None) -> None:
        if unit is None:  # affine, and neither above zero nor wrong at its least point
            self.stuck += 1
            self.lowest = min(self.lowest, bound)
            return
        for sign in (1.0, -1.0):
            signs = node.signs.clone()
            signs[0, unit] = sign
            heapq.heappush(self.waiting, _Node(bound, next(self.turns), signs))


def _at(encoding: Encoding, name: str, point: Floats) -> Tensor:
    """A node's value in the program at a point, flat."""
    forms = encoding.forms[name]
    return torch.from_numpy(forms.matrix @ point[: forms.matrix.shape[1]] + forms.offset)
