"""Branch and bound on boxes of inputs or on signs of ReLUs, see `phalanx.verify.bab`."""

from __future__ import annotations

from phalanx.verify.bab.search import search
from phalanx.verify.engine import Task, engines
from phalanx.verify.outcome import Outcome


@engines.register("branch-and-bound")
def branch_and_bound(task: Task) -> Outcome:
    """Every box it closes is closed by bounds with all roundings counted, where it says so."""
    return search(task.graph, task.case, task.clock)
