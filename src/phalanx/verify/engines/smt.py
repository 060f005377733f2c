"""Satisfiability modulo linear real arithmetic (Katz et al. 2017; Ehlers 2017), solved by z3.

Weights, box and rows are rational numbers, and so is every step of the solver: an empty problem
is a proof in exact arithmetic, at z3's word. It is the slowest complete method here and the one
with the fewest ways to be wrong, which makes it a judge of the others on small networks. The box
is that of the case's float64 numbers.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from phalanx.graph.run import run
from phalanx.verdicts import Verdict
from phalanx.verify.engine import Task, engines
from phalanx.verify.outcome import TIMEOUT, Outcome, OutOfTime
from phalanx.verify.result import OUTWARD
from phalanx.verify.smt.encode import Budget, TooMany, Written, encode
from phalanx.verify.smt.solve import Answer, Status, solved

NAME = "smt"
MOST = 1_000_000
"""Coefficients that are worth a try: reading them takes the solver seconds."""

MARGINS = (Fraction(0), Fraction(1, 10**6), Fraction(1, 10**4), Fraction(1, 100))
"""By how much rows must be below zero. A solver answers with corners, where a row is zero; there
the network's own roundings decide, so a point further inside is asked for."""


@engines.register(NAME)
def smt(task: Task) -> Outcome:
    """Is there an input of the box on which all rows hold?

    Raises:
        GraphError: an operator that is not piecewise linear. MissingDependencyError: z3 is not
            installed. SolverError: z3 failed.
    """
    try:
        return _asked(task, encode(task.graph, task.case, Budget(task.clock, MOST)))
    except TooMany:
        return Outcome(Verdict.UNKNOWN, f"more than {MOST} coefficients are too many for {NAME}")
    except OutOfTime:
        return Outcome(Verdict.UNKNOWN, TIMEOUT)


def _asked(task: Task, written: Written) -> Outcome:
    stats = {"choices": written.choices, "coefficients": written.size, "arithmetic": OUTWARD}
    why = ""
    for margin in MARGINS:
        answer = solved(written.text(margin), written.size, task.clock, task.seed)
        if answer.status is Status.NEITHER:
            why = why or f"z3 gives up: {answer.why}"
            break
        if answer.status is Status.EMPTY:
            if not margin:
                return Outcome(Verdict.VERIFIED, NAME, stats=stats)
            break
        witness = _confirmed(task, written, answer)
        if witness is not None:
            return Outcome(Verdict.FALSIFIED, NAME, witness=witness, stats=stats)
        why = "a counterexample in rational numbers is none for the network's floats"
    if task.clock.expired():
        raise OutOfTime
    return Outcome(Verdict.UNKNOWN, why, stats=stats)


def _confirmed(task: Task, written: Written, answer: Answer) -> Tensor | None:
    """The solver's input as floats of the box, if the network is wrong there too."""
    case, graph = task.case, task.graph
    x = written.point(answer.values, case.lower).clamp(case.lower, case.upper)
    if task.confirm is not None:
        return x if task.confirm(x) else None
    exact = graph.to(torch.float64)
    with torch.no_grad():
        y = run(exact, x.double().reshape(1, *graph.input.shape)).flatten(1)
    return x if bool(case.holds(x[None], y)) else None
