"""Branch and bound with linear programs and cuts: few sub-problems where few layers read the input.

Over the whole box of what a sum reads, a ReLU's convex hull is far less than its triangle
(Tjandraatmadja et al. 2020). For a network with one layer of ReLUs that closes in tens of programs
what linear bounds do not close in tens of thousands of sub-problems.
"""

from __future__ import annotations

from phalanx.verify.bab.lp import split_with_programs
from phalanx.verify.engine import Task, engines
from phalanx.verify.outcome import Outcome

NAME = "branch-and-bound-cuts"
ROUNDS = 4
"""Of cuts, at every node."""


@engines.register(NAME)
def branch_and_bound_cuts(task: Task) -> Outcome:
    """See `split_with_programs`."""
    return split_with_programs(task, NAME, ROUNDS)
