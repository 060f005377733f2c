"""HiGHS (Huangfu & Hall 2018) behind one class: many costs over one program, rows added between.

Whole programs are handed over at once. One thread and a fixed seed: the same program has the same
answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array

from phalanx.bounds.programs.multipliers import least_by_multipliers
from phalanx.bounds.programs.program import Floats, Program
from phalanx.bounds.region import Region
from phalanx.errors import MissingDependencyError, ParameterError

if TYPE_CHECKING:
    from types import ModuleType

SIMPLEX, DUAL, PRIMAL = "simplex", 1, 4
"""HiGHS's solver, and its numbers for the two methods: a changed cost leaves the last point
feasible, from where the primal one goes on."""
INTERIOR, LARGE = "ipm", 2000
"""Programs of so many rows are first solved by interior points: a sixth of the time at 7,000. They
end in a corner (by crossover), from where the simplex method goes on."""


class Status(StrEnum):
    """What a solver says of a program: none of it is proof."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    TIMEOUT = "timeout"
    FAILED = "failed"


@dataclass(frozen=True, eq=False)
class Solution:
    """An answer.

    Attributes:
        status: see `Status`.
        bound: a lower bound of the minimum that was computed from the multipliers here; minus
            infinity where there are none.
        point: columns ``(columns,)`` at which the solver ended; None where it has none.
        multipliers: of the rows ``(rows,)``; None likewise.
        empty: multipliers show that no point satisfies the rows; computed here like the bound.
    """

    status: Status
    bound: float
    point: Floats | None
    multipliers: Floats | None
    empty: bool = False


class Solver:
    """A program that is minimised for one cost after another; whole numbers are left aside.

    Args:
        program: what is minimised over.
        seconds: of each minimisation; None: as long as it takes.
        ball: the one input region, where bounds may use more of it than its box.

    Raises:
        MissingDependencyError: highspy is not installed. ParameterError: no time.

    >>> from phalanx.bounds.programs.program import Draft
    >>> draft = Draft()
    >>> x = draft.forms(draft.add_columns(np.zeros(2), np.ones(2)))
    >>> _ = draft.between(x.take(np.array([0])).plus(x.take(np.array([1]))), 0.5, np.inf)
    >>> solver = Solver(draft.program())
    >>> round(solver.least(np.array([1.0, 2.0])).bound, 9)
    0.5
    """

    def __init__(
        self, program: Program, seconds: float | None = None, ball: Region | None = None
    ) -> None:
        self.program, self.ball = program.relaxed(), ball
        self._first = INTERIOR if self.program.rows >= LARGE else SIMPLEX
        self._highs = started(self.program, seconds, self._first)

    def least(self, cost: Floats, constant: float = 0.0) -> Solution:
        """The minimum of ``cost . v + constant``, from where the last one ended."""
        highs, columns = self._highs, self.program.columns
        if highs is None:
            return Solution(Status.FAILED, -math.inf, None, None)
        highs.changeColsCost(columns, np.arange(columns, dtype=np.int32), cost)
        highs.run()
        status = status_of(highs)
        if self._first == INTERIOR:
            self._first = SIMPLEX
            highs.setOptionValue("solver", SIMPLEX)
            if status is Status.INFEASIBLE:  # only the simplex method says by which multipliers
                highs.run()
                status = status_of(highs)
        found = highs.getSolution()
        point = np.array(found.col_value) if found.value_valid else None
        multipliers = np.array(found.row_dual) if found.dual_valid else None
        bound = -math.inf
        if multipliers is not None and len(multipliers) == self.program.rows:
            bound = least_by_multipliers(self.program, cost, multipliers, constant, self.ball)
        empty = status is Status.INFEASIBLE and self._empty()
        highs.setOptionValue("simplex_strategy", PRIMAL)
        return Solution(status, bound, point, multipliers, empty)

    def _empty(self) -> bool:
        """Whether HiGHS has multipliers by which zero would be above zero (Farkas)."""
        _, there, ray = self._highs.getDualRay()
        if not there or len(ray) != self.program.rows:
            return False
        zero, ray = np.zeros(self.program.columns), np.array(ray)
        return any(least_by_multipliers(self.program, zero, y) > 0 for y in (ray, -ray))

    def add(self, matrix: csr_array, low: Floats, high: Floats) -> None:
        """More rows; the next minimisation starts from the last one's basis."""
        self.program = self.program.with_rows(matrix, low, high)
        if self._highs is None:
            return
        self._highs.addRows(
            len(low), _infinite(low), _infinite(high), matrix.nnz,
            matrix.indptr[:-1].astype(np.int32), matrix.indices.astype(np.int32), matrix.data,
        )  # fmt: skip
        # A row that cuts the last point off leaves its multipliers feasible: the dual method.
        self._highs.setOptionValue("simplex_strategy", DUAL)


def started(program: Program, seconds: float | None, first: str = SIMPLEX) -> Any:
    """HiGHS with a program and no cost; None where it refuses the numbers (1e15 and larger).

    Args:
        program: whole numbers and all.
        seconds: of all runs together.
        first: the solver of a program without whole numbers.

    Raises:
        MissingDependencyError, ParameterError: see `Solver`.
    """
    if seconds is not None and not seconds > 0:
        raise ParameterError(f"a time limit of {seconds} seconds", repair="a positive number")
    module = highspy()
    # The class for users prints a banner into the program's answers before it can be silenced.
    highs = getattr(module, "_Highs", module.Highs)()
    options: dict[str, Any] = {
        "output_flag": False, "threads": 1, "random_seed": 0, "parallel": "off",
    }  # fmt: skip
    if not program.whole.any():  # asked for by name, HiGHS before 1.12 forgets whole numbers
        options["solver"] = first
    if seconds is not None:
        options["time_limit"] = float(seconds)
    for name, value in options.items():
        highs.setOptionValue(name, value)
    model = module.HighsLp()
    model.num_col_, model.num_row_ = program.columns, program.rows
    model.col_cost_ = np.zeros(program.columns)
    model.col_lower_, model.col_upper_ = (_infinite(side) for side in program.asked)
    model.row_lower_, model.row_upper_ = _infinite(program.low), _infinite(program.high)
    model.a_matrix_.format_ = module.MatrixFormat.kColwise
    model.a_matrix_.start_ = program.matrix.indptr.astype(np.int32)
    model.a_matrix_.index_ = program.matrix.indices.astype(np.int32)
    model.a_matrix_.value_ = program.matrix.data
    if program.whole.any():
        kinds = module.HighsVarType
        model.integrality_ = [kinds.kInteger if w else kinds.kContinuous for w in program.whole]
    return None if highs.passModel(model) == module.HighsStatus.kError else highs


def status_of(highs: Any) -> Status:
    """What HiGHS says of the model it ran."""
    kinds = highspy().HighsModelStatus
    status = highs.getModelStatus()
    if status == kinds.kOptimal:
        return Status.OPTIMAL
    if status == kinds.kInfeasible:
        return Status.INFEASIBLE
    return Status.TIMEOUT if status == kinds.kTimeLimit else Status.FAILED


def highspy() -> ModuleType:
    """The solver's module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import highspy as module
    except ImportError as error:
        raise MissingDependencyError(
            "linear programs need highspy, which is not installed",
            repair="pip install 'phalanx[milp]'",
        ) from error
    return module


def _infinite(values: Floats) -> Floats:
    return np.ascontiguousarray(values, dtype=np.float64)  # HiGHS's infinity is IEEE's
