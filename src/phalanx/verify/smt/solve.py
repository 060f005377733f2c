"""A question to z3 under a clock: small ones here, others in a process that can be ended."""

from __future__ import annotations

import subprocess
import sys
from math import inf

from phalanx.errors import SolverError
from phalanx.verify.outcome import Clock, OutOfTime
from phalanx.verify.smt.ask import Answer, Request, Status, ask, installed

HERE = 3000
"""Coefficients up to which z3 keeps its own time limit; starting a process takes longer."""

__all__ = ["Answer", "Status", "solved"]


def solved(text: str, size: int, clock: Clock, seed: int = 0) -> Answer:
    """Whether the assertions of a text can hold together.

    Args:
        text: SMT-LIB 2 over variables ``v0``, ``v1``, ...
        size: about how many coefficients it has.
        clock: the solver is ended when it runs out.
        seed: of its search.

    Raises:
        MissingDependencyError: z3 is not installed. OutOfTime: the clock ran out.
        SolverError: the solver failed.

    >>> solved("(declare-const v0 Real) (assert (< v0 v0))", 2, Clock(10.0)).status.value
    'unsat'
    """
    left = clock.left()
    if left <= 0:
        raise OutOfTime
    installed()
    request = Request(text, None if left == inf else max(1, int(min(left, 1e6) * 1000)), seed)
    if size <= HERE:
        try:
            answer = ask(request)
        except SolverError:
            if clock.expired():
                raise OutOfTime from None
            raise
    else:
        answer = _apart(request, clock)
    if answer.status is Status.NEITHER and clock.expired():
        raise OutOfTime
    return answer


def _apart(request: Request, clock: Clock) -> Answer:
    """Asked of a process of its own, which ends with the clock."""
    command = [sys.executable, "-m", "phalanx.verify.smt.ask"]
    left = clock.left()
    try:
        done = subprocess.run(
            command,
            input=request.written(),
            capture_output=True,
            text=True,
            timeout=None if left == inf else max(left, 0.01),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OutOfTime from None
    if done.returncode:
        if clock.expired():
            raise OutOfTime
        said = done.stderr.strip().splitlines()
        raise SolverError(
            f"the process of z3 ended with {done.returncode}",
            why=said[-1] if said else "it may have run out of memory",
        )
    try:
        return Answer.read(done.stdout)
    except (ValueError, LookupError) as error:
        raise SolverError("the process of z3 gave no answer", why=str(error)) from error
