"""Programs with whole numbers, solved by HiGHS or, where it is there, by Gurobi.

What either says is no proof: nobody has its tree.
"""

from __future__ import annotations

import math
import time
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from phalanx.bounds.programs.program import Floats, Program
from phalanx.bounds.programs.solver import Status, started, status_of

LEAST = 0.01
"""Seconds that HiGHS has in any case."""

TOLERANCE = 1e-9
"""Of rows, columns and whole numbers."""

GUROBI = "gurobipy"


class Branched(NamedTuple):
    """What a solver says of ``cost . v``.

    Attributes:
        status: see `Status`.
        claimed: its lower bound; minus infinity where it says none.
        point: columns at which it ended; None without any.
    """

    status: Status
    claimed: float
    point: Floats | None


def branched(program: Program, cost: Floats, seconds: float | None) -> Branched:
    """The least ``cost . v``, by Gurobi where it is installed and its license takes the program.

    Raises:
        MissingDependencyError: highspy is not installed. ParameterError: no time.
    """
    begun = time.monotonic()
    found = by_gurobi(program, cost, seconds) if find_spec(GUROBI) else None
    if found is not None and found.status is not Status.FAILED:
        return found
    left = None if seconds is None else max(seconds - (time.monotonic() - begun), LEAST)
    return by_highs(program, cost, left)


def by_highs(program: Program, cost: Floats, seconds: float | None) -> Branched:
    """HiGHS's answer (Huangfu & Hall 2018)."""
    highs = started(program, seconds)
    if highs is None:
        return Branched(Status.FAILED, -math.inf, None)
    for name in ("mip_feasibility_tolerance", "primal_feasibility_tolerance"):
        highs.setOptionValue(name, TOLERANCE)
    for name in ("mip_rel_gap", "mip_abs_gap"):
        highs.setOptionValue(name, 0.0)
    highs.changeColsCost(program.columns, np.arange(program.columns, dtype=np.int32), cost)
    highs.run()
    status, found, info = status_of(highs), highs.getSolution(), highs.getInfo()
    whole = bool(program.whole.any())
    value = float(info.mip_dual_bound if whole else info.objective_function_value)
    point = np.array(found.col_value) if found.value_valid else None
    return Branched(status, _claimed(status, value, whole=whole), point)


def by_gurobi(program: Program, cost: Floats, seconds: float | None) -> Branched | None:
    """Gurobi's answer, on one thread; None where it fails: as without a license for the size."""
    module = import_module(GUROBI)
    settings: dict[str, Any] = {
        **{"OutputFlag": 0, "Threads": 1, "Seed": 0, "MIPGap": 0.0, "MIPGapAbs": 0.0},
        **{"FeasibilityTol": TOLERANCE, "IntFeasTol": TOLERANCE, "OptimalityTol": TOLERANCE},
    }
    if seconds is not None:
        settings["TimeLimit"] = seconds
    try:
        with module.Env(params=settings) as env, module.Model(env=env) as model:
            return _solved(module.GRB, model, program, cost)
    except (module.GurobiError, AttributeError):  # the latter: a model that ended without a bound
        return None


def _solved(names: Any, model: Any, program: Program, cost: Floats) -> Branched:
    low, high = program.asked
    kinds = np.where(program.whole, names.INTEGER, names.CONTINUOUS)
    columns = model.addMVar(program.columns, lb=low, ub=high, obj=cost, vtype=kinds)
    matrix = program.matrix.tocsr()
    for side, sense in ((program.low, ">"), (program.high, "<")):
        there = np.flatnonzero(np.isfinite(side))
        if len(there):
            model.addMConstr(matrix[there], columns, sense, side[there])
    model.optimize()
    statuses = {
        names.OPTIMAL: Status.OPTIMAL,
        names.INFEASIBLE: Status.INFEASIBLE,
        names.TIME_LIMIT: Status.TIMEOUT,
    }
    status, whole = statuses.get(model.Status, Status.FAILED), bool(program.whole.any())
    told = whole or status is Status.OPTIMAL
    value = float(model.ObjBound if whole else model.ObjVal) if told else -math.inf
    point = np.array(columns.X) if model.SolCount else None
    return Branched(status, _claimed(status, value, whole=whole), point)


def _claimed(status: Status, value: float, *, whole: bool) -> float:
    """A lower bound; of a program without choices its optimum."""
    known = (Status.OPTIMAL, Status.TIMEOUT) if whole else (Status.OPTIMAL,)
    return value if status in known and math.isfinite(value) else -math.inf
