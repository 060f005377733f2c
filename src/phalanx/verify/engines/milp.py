"""Mixed-integer linear programming (Cheng et al. 2017; Tjeng et al. 2019), solved by HiGHS.

One binary variable for every unit that CROWN's bounds leave open; a counterexample is a point of
the program. What HiGHS says of an empty or positive program is its own claim, less what its
tolerances may be worth: the arithmetic is ``real``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import csc_array, csr_array, hstack

from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.programs.encode import Encoding, encode
from phalanx.bounds.programs.exact import least_exactly
from phalanx.bounds.programs.program import Floats, Program
from phalanx.bounds.programs.solver import Status
from phalanx.graph.run import run
from phalanx.specs.property import Case
from phalanx.verdicts import Verdict
from phalanx.verify.bounding import Timed, full_rows, prepared
from phalanx.verify.engine import Task, engines
from phalanx.verify.outcome import TIMEOUT, Clock, Outcome

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
    case = task.case
    graph = prepared(task.graph, mixed=case.inputs is not None)
    lower, upper = (side.reshape(1, *graph.input.shape) for side in (case.lower, case.upper))
    region = Timed(lower, upper, (lower + upper) / 2, clock=task.clock)
    given = task.inside.boxes if task.inside is not None and case.inputs is None else {}
    engine = Engine(graph, region, Settings(), given=given)
    with torch.no_grad():
        engine.bound_all()
    units = _open_units(engine)
    if units > MOST_OPEN:
        return Outcome(Verdict.UNKNOWN, f"{units} open units are too many for {NAME}")
    encoding = encode(graph, engine.boxes, exact=True)
    whole = int(encoding.program.whole.sum())
    if not encoding.complete:
        return Outcome(Verdict.UNKNOWN, "only a relaxation is encoded")
    return _solved(task, engine, encoding, whole)


def _open_units(engine: Engine) -> int:
    """Numbers whose relaxation is not exact."""
    masks = (engine.wanted(node, engine.boxes[node.name]) for node in engine.graph)
    return sum(int(mask.sum()) for mask in masks if mask is not None)


def _solved(task: Task, engine: Engine, encoding: Encoding, whole: int) -> Outcome:
    encoding, cost, constant = _asked(task.case, engine, encoding)
    found = least_exactly(encoding, cost, constant, seconds=_seconds(task.clock))
    stats = {"binary variables": whole}
    lower = max(found.proven, found.lower)
    if found.point is not None:
        x = torch.from_numpy(found.point[: encoding.inputs]).double()
        if _unsafe(task, x):
            return Outcome(Verdict.FALSIFIED, NAME, witness=x, stats=stats)
    if lower > 0:
        return Outcome(Verdict.VERIFIED, NAME, lower=_finite(lower), stats=stats)
    if found.status is Status.TIMEOUT or task.clock.expired():
        return Outcome(Verdict.UNKNOWN, TIMEOUT, lower=_finite(lower), stats=stats)
    why = f"the program is {found.status}, and its point is no counterexample of the network"
    return Outcome(Verdict.UNKNOWN, why, lower=_finite(lower), stats=stats)


def _asked(case: Case, engine: Engine, encoding: Encoding) -> tuple[Encoding, Floats, float]:
    """What is minimised: the only row, or a column of its own that no row is above."""
    graph = engine.graph
    rows = full_rows(case) if case.inputs is not None else case.outputs
    costs = [encoding.cost(graph.output, row) for row in rows.numpy()]
    offsets = case.offset.numpy()
    if not costs:
        return encoding, np.zeros(encoding.program.columns), 0.0
    if len(costs) == 1:
        return encoding, costs[0][0], costs[0][1] + float(offsets[0])
    both = torch.cat([rows, -rows]).reshape(2 * len(rows), 1, *graph[graph.output].shape)
    with torch.no_grad():
        low, high = engine.least({graph.output: both}, None)[:, 0].numpy().reshape(2, -1)
    # The largest row lies between these; a little room keeps the solver's tolerances out of it.
    bounds = float((low + offsets).max()) - 1.0, float((offsets - high).max()) + 1.0
    program = _with_column(encoding.program, *bounds)
    above = np.stack([np.append(cost, -1.0) for cost, _ in costs])
    ends = -np.array([constant for _, constant in costs]) - offsets
    program = program.with_rows(csr_array(above), np.full(len(ends), -np.inf), ends)
    cost = np.zeros(program.columns)
    cost[-1] = 1.0
    return replace(encoding, program=program), cost, 0.0


def _with_column(program: Program, low: float, high: float) -> Program:
    """With one more column, in no row yet."""
    return replace(
        program,
        matrix=csc_array(hstack([program.matrix, csc_array((program.rows, 1))], format="csc")),
        lower=np.append(program.lower, low),
        upper=np.append(program.upper, high),
        whole=np.append(program.whole, False),
        asked=(np.append(program.asked[0], low), np.append(program.asked[1], high)),
    )


def _unsafe(task: Task, x: torch.Tensor) -> bool:
    """Whether the network is wrong at the program's point, clamped into the box."""
    x = x.clamp(task.case.lower, task.case.upper)[None]
    graph = task.graph.to(torch.float64)
    y = run(graph, x.reshape(1, *graph.input.shape)).flatten(1)
    return bool(task.case.holds(x, y))


def _seconds(clock: Clock) -> float | None:
    """For the relaxation at the root, and again for the branching."""
    left = clock.left() / 2
    return None if left == float("inf") else max(left, 0.01)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
