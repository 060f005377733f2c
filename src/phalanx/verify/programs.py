"""What engines that solve programs share: boxes of a task, its rows as a cost, points to try."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import csc_array, csr_array, hstack

from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.programs.encode import Encoding
from phalanx.bounds.programs.program import Floats, Program
from phalanx.graph.run import run
from phalanx.specs.property import Case
from phalanx.verify.bounding import Timed, full_rows, prepared
from phalanx.verify.engine import Task


def bounded(task: Task) -> Engine:
    """Boxes of all values over the case's box: CROWN's, where no better ones are known.

    Raises:
        GraphError: an operator that is not bounded. OutOfTime: the clock ran out.
    """
    case = task.case
    graph = prepared(task.graph, mixed=case.inputs is not None)
    lower, upper = (side.reshape(1, *graph.input.shape) for side in (case.lower, case.upper))
    region = Timed(lower, upper, (lower + upper) / 2, clock=task.clock)
    given = task.inside.boxes if task.inside is not None and case.inputs is None else {}
    engine = Engine(graph, region, Settings(), given=given)
    with torch.no_grad():
        engine.bound_all()
    return engine


def asked(case: Case, engine: Engine, encoding: Encoding) -> tuple[Encoding, Floats, float]:
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


def unsafe(task: Task, x: torch.Tensor) -> bool:
    """Whether the network is wrong at the program's point, clamped into the box."""
    x = x.clamp(task.case.lower, task.case.upper)[None]
    graph = task.graph.to(torch.float64)
    y = run(graph, x.reshape(1, *graph.input.shape)).flatten(1)
    return bool(task.case.holds(x, y))


def finite(value: float) -> float | None:
    """A bound, where it is a number."""
    return value if np.isfinite(value) else None
