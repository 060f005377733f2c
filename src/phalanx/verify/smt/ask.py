"""z3 (de Moura & Bjorner 2008): a text in, an answer out; here, or as a process of its own.

A row operation on long rows of long numbers does not look at z3's own time limit for seconds; a
process can be ended. It imports neither torch nor the rest of Phalanx:
``python -m phalanx.verify.smt.ask`` reads a request from stdin and writes an answer to stdout.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from phalanx.errors import MissingDependencyError, SolverError

if TYPE_CHECKING:
    from types import ModuleType


class Status(StrEnum):
    """What the solver says."""

    EMPTY = "unsat"
    FOUND = "sat"
    NEITHER = "unknown"


@dataclass(frozen=True)
class Request:
    """A question.

    Attributes:
        text: SMT-LIB 2 over variables ``v0``, ``v1``, ...
        milliseconds: z3's time limit; None: none.
        seed: of its search.
    """

    text: str
    milliseconds: int | None = None
    seed: int = 0

    def written(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Answer:
    """What the solver says.

    Attributes:
        status: see `Status`.
        values: of the variables, by their numbers, exactly; where one was found.
        why: the solver's own words, where it says neither.
    """

    status: Status
    values: Mapping[int, Fraction]
    why: str = ""

    def written(self) -> str:
        """As JSON."""
        values = {str(number): str(value) for number, value in self.values.items()}
        return json.dumps({"status": self.status, "values": values, "why": self.why})

    @classmethod
    def read(cls, text: str) -> Answer:
        """From JSON.

        >>> answer = Answer(Status.FOUND, {0: Fraction(1, 3)})
        >>> Answer.read(answer.written()) == answer
        True
        """
        found = json.loads(text)
        values = {int(number): Fraction(value) for number, value in found["values"].items()}
        return cls(Status(found["status"]), values, found["why"])


def ask(request: Request) -> Answer:
    """Whether the assertions of a text can hold together.

    Raises:
        MissingDependencyError: z3 is not installed. SolverError: z3 failed.

    >>> found = ask(Request("(declare-const v0 Real) (assert (= (* 3 v0) 1))"))
    >>> found.status.value, found.values[0]
    ('sat', Fraction(1, 3))
    """
    z3 = installed()
    try:
        # A context of its own: no other question, and no other thread, shares its state. The
        # simple solver: what z3 prefers for this logic is many times slower on long rows.
        solver = z3.SimpleSolver(ctx=z3.Context())
        solver.set("random_seed", request.seed % (1 << 31))
        solver.from_string(request.text)
        if request.milliseconds is not None:
            solver.set("timeout", request.milliseconds)
        said = solver.check()
        if said == z3.unsat:
            return Answer(Status.EMPTY, {})
        if said == z3.sat:
            return Answer(Status.FOUND, _values(solver.model()))
        return Answer(Status.NEITHER, {}, str(solver.reason_unknown()))
    except z3.Z3Exception as failure:
        raise SolverError(f"z3 failed: {failure}", why="its answer is none") from failure


def _values(model: Any) -> dict[int, Fraction]:
    """Of every variable that the solver gave one."""
    found = {}
    for declared in model.decls():
        name = re.fullmatch(r"v(\d+)", declared.name())
        if name is not None:
            found[int(name[1])] = Fraction(model[declared].as_fraction())
    return found


def installed() -> ModuleType:
    """The solver's module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import z3
    except ImportError as error:
        raise MissingDependencyError(
            "the engine smt needs z3, which is not installed",
            repair="pip install 'phalanx[smt]'",
        ) from error
    return z3


if __name__ == "__main__":
    sys.stdout.write(ask(Request(**json.loads(sys.stdin.read()))).written())
