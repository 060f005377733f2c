"""The minimum over an encoding with whole numbers (Cheng et al. 2017; Tjeng et al. 2019).

What is checked here and what is not: ``proven`` rests on multipliers of the relaxation and is
computed by us. ``claimed`` is the solver's word after branching, and no proof: nobody has its tree,
and what its tolerances are worth is not known, as the weights of a network amplify them from layer
to layer. Where the point that the solver found is run through the network, the value there is the
network's.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from phalanx.bounds.programs.branching import branched
from phalanx.bounds.programs.encode import Encoding
from phalanx.bounds.programs.program import Floats, Program
from phalanx.bounds.programs.solver import Solver, Status

LEAST = 0.01
"""Seconds that branching has in any case."""

LARGEST = 1e6
"""Programs with larger numbers get no claim: HiGHS has been seen to be wrong about them."""


@dataclass(frozen=True, eq=False)
class Minimum:
    """What is known of a minimum.

    Attributes:
        status: ``optimal``: the solver says that its bound and ``upper`` meet; ``failed`` also
            where its claims are not taken, because numbers are larger than `LARGEST`.
        proven: a lower bound from multipliers, computed here.
        claimed: the solver's lower bound; minus infinity where it says none, or that the program
            is empty.
        upper: the program's value at ``point``; None without one. The network's value there is for
            the caller to compute.
        point: columns at which the solver found the minimum; the input's come first.
    """

    status: Status
    proven: float
    claimed: float
    upper: float | None
    point: Floats | None


def least_exactly(
    encoding: Encoding, cost: Floats, constant: float = 0.0, *, seconds: float | None = None
) -> Minimum:
    """The minimum of ``cost . v + constant`` over an encoding, whole numbers included.

    Args:
        encoding: from `encode` with ``exact=True``; where it is not ``complete`` the minimum is
            that of a relaxation.
        cost, constant: for example from `Encoding.cost`.
        seconds: for the relaxation and the branching together; None: as long as it takes.

    Raises:
        MissingDependencyError: highspy is not installed. ParameterError: no time.
    """
    program = encoding.program
    begun = time.monotonic()
    root = Solver(program, seconds).least(cost, constant)
    left = None if seconds is None else max(seconds - (time.monotonic() - begun), LEAST)
    status, claimed, point = branched(program, cost, left)
    upper = None
    if point is not None and program.holds(point):
        upper = float(cost @ point) + constant
    else:
        point = None
    if not _moderate(program, cost):
        return Minimum(Status.FAILED, root.bound, -math.inf, upper, point)
    return Minimum(status, root.bound, claimed + constant, upper, point)


def _moderate(program: Program, cost: Floats) -> bool:
    numbers = (program.matrix.data, program.lower, program.upper, cost)
    return all(bool((np.abs(part) <= LARGEST).all()) for part in numbers)
