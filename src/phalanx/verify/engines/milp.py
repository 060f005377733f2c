"""Mixed-integer linear programming (Cheng et al. 2017; Tjeng et al. 2019), solved by HiGHS.

One binary variable for every unit that CROWN's bounds leave open; a counterexample is a point of
the program. What HiGHS says of an empty or positive program is its own claim, less what its
tolerances may be worth: the arithmetic is ``real``.
"""

from __future__ import annotations

import torch

from phalanx.bounds.engine import Engine
from phalanx.bounds.programs.encode import Encoding, encode
from phalanx.bounds.programs.exact import least_exactly
from phalanx.bounds.programs.solver import Status
from phalanx.verdicts import Verdict
from phalanx.verify.engine import Task, engines
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
            is not installed.
    """
    engine = bounded(task)
    units = _open_units(engine)
    if units > MOST_OPEN:
        return Outcome(Verdict.UNKNOWN, f"{units} open units are too many for {NAME}")
    encoding = encode(engine.graph, engine.boxes, exact=True)
    whole = int(encoding.program.whole.sum())
    if not encoding.complete:
        return Outcome(Verdict.UNKNOWN, "only a relaxation is encoded")
    return _solved(task, engine, encoding, whole)


def _open_units(engine: Engine) -> int:
    """Numbers whose relaxation is not exact."""
    masks = (engine.wanted(node, engine.boxes[node.name]) for node in engine.graph)
    return sum(int(mask.sum()) for mask in masks if mask is not None)


def _solved(task: Task, engine: Engine, encoding: Encoding, whole: int) -> Outcome:
    encoding, cost, constant = asked(task.case, engine, encoding)
    found = least_exactly(encoding, cost, constant, seconds=_seconds(task.clock))
    stats = {"binary variables": whole}
    lower = max(found.proven, found.lower)
    if found.point is not None:
        x = torch.from_numpy(found.point[: encoding.inputs]).double()
        if unsafe(task, x):
            return Outcome(Verdict.FALSIFIED, NAME, witness=x, stats=stats)
    if lower > 0:
        return Outcome(Verdict.VERIFIED, NAME, lower=finite(lower), stats=stats)
    if found.status is Status.TIMEOUT or task.clock.expired():
        return Outcome(Verdict.UNKNOWN, TIMEOUT, lower=finite(lower), stats=stats)
    why = f"the program is {found.status}, and its point is no counterexample of the network"
    return Outcome(Verdict.UNKNOWN, why, lower=finite(lower), stats=stats)


def _seconds(clock: Clock) -> float | None:
    """For the relaxation at the root, and again for the branching."""
    left = clock.left() / 2
    return None if left == float("inf") else max(left, 0.01)
