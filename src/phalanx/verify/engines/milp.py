"""Mixed-integer linear programming (Cheng et al. 2017; Tjeng et al. 2019), solved by HiGHS.

One binary variable for every unit that CROWN's bounds leave open. A counterexample is a point of
the program, and is run through the network. That there is none is HiGHS's word at first, within
tolerances that the weights of a network amplify, and of a tree that it does not hand out; so branch
and bound looks for one in the time that is left, and only what it proves counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from phalanx.bounds.engine import Engine
from phalanx.bounds.programs.encode import Encoding, encode
from phalanx.bounds.programs.exact import Minimum, least_exactly
from phalanx.bounds.programs.solver import Status
from phalanx.errors import SolverError
from phalanx.verdicts import Verdict
from phalanx.verify.engine import Task, engines
from phalanx.verify.engines.branch_and_bound import branch_and_bound
from phalanx.verify.outcome import TIMEOUT, Clock, Outcome
from phalanx.verify.programs import asked, bounded, finite, unsafe

NAME = "milp"
MOST_OPEN = 500
"""Units that are worth a try."""


@engines.register(NAME)
def milp(task: Task) -> Outcome:
    """The least value over the box of the case's largest row.

    Raises:
        GraphError: an operator that is not bounded or not encoded. MissingDependencyError: highspy
            is not installed. SolverError: the solver finds the program empty, which none is.
    """
    engine = bounded(task)
    units = _open_units(engine)
    if units > MOST_OPEN:
        return Outcome(Verdict.UNKNOWN, f"{units} open units are too many for {NAME}")
    encoding = encode(engine.graph, engine.boxes, exact=True)
    if not encoding.complete:
        return Outcome(Verdict.UNKNOWN, "only a relaxation is encoded")
    return _solved(task, engine, encoding)


def _open_units(engine: Engine) -> int:
    """Numbers whose relaxation is not exact."""
    masks = (engine.wanted(node, engine.boxes[node.name]) for node in engine.graph)
    return sum(int(mask.sum()) for mask in masks if mask is not None)


def _solved(task: Task, engine: Engine, encoding: Encoding) -> Outcome:
    stats = {"binary variables": int(encoding.program.whole.sum())}
    encoding, cost, constant = asked(task.case, engine, encoding)
    found = least_exactly(encoding, cost, constant, seconds=_seconds(task.clock))
    if found.point is not None:
        x = torch.from_numpy(found.point[: encoding.inputs]).double()
        x = x.clamp(task.case.lower, task.case.upper)
        if unsafe(task, x) and (task.confirm is None or task.confirm(x)):
            return Outcome(Verdict.FALSIFIED, NAME, witness=x, stats=stats)
    if found.status is Status.INFEASIBLE:
        raise SolverError(
            "the solver finds the program of a network empty",
            why="a network has a value wherever its box has a point, so the answer is wrong",
            repair="--engine branch-and-bound",
        )
    if max(found.proven, found.claimed) > 0:
        return _confirmed(task, found, stats)
    lower = finite(found.proven)
    if found.status is Status.TIMEOUT or task.clock.expired():
        return Outcome(Verdict.UNKNOWN, TIMEOUT, lower=lower, stats=stats)
    why = f"the program is {found.status}, and its point is no counterexample of the network"
    return Outcome(Verdict.UNKNOWN, why, lower=lower, stats=stats)


def _confirmed(task: Task, found: Minimum, stats: Mapping[str, Any]) -> Outcome:
    """What branch and bound proves of a case that HiGHS has no counterexample of."""
    own = branch_and_bound(task)
    own = replace(own, stats={**own.stats, **stats})
    if own.verdict is Verdict.VERIFIED:
        return replace(own, reason=NAME)
    if own.verdict is Verdict.UNKNOWN and own.reason != TIMEOUT:
        claimed = max(found.proven, found.claimed)
        why = f"the solver claims a least value of {claimed:.6g}, which nothing confirms"
        why = f"{why}: {own.reason}"
        return replace(own, reason=why)
    return own


def _seconds(clock: Clock) -> float | None:
    """For the solver; the rest is to confirm what it says."""
    left = clock.left() / 2
    return None if left == float("inf") else max(left, 0.01)
