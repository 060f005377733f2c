"""The older complete way: branch and bound with a linear program at every node.

The tightest bound of one ReLU at a time without looking at what its sum reads, and dear: what
`branch-and-bound` does with linear bounds on hundreds of sub-problems at once, this does with HiGHS
on one after the other. It is here to be compared with.
"""

from __future__ import annotations

from phalanx.verify.bab.lp import split_with_programs
from phalanx.verify.engine import Task, engines
from phalanx.verify.outcome import Outcome

NAME = "branch-and-bound-lp"


@engines.register(NAME)
def branch_and_bound_lp(task: Task) -> Outcome:
    """See `split_with_programs`."""
    return split_with_programs(task, NAME)
