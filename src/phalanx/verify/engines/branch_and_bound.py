"""Branch and bound on boxes of inputs, signs of ReLUs or pieces of curves: `phalanx.verify.bab`."""

from __future__ import annotations

from phalanx.verify.bab.curves import CurveOptions
from phalanx.verify.bab.inputs import InputOptions, Progress
from phalanx.verify.bab.relus import ReluOptions
from phalanx.verify.bab.search import SearchOptions, search
from phalanx.verify.engine import Task, engines
from phalanx.verify.outcome import Outcome


@engines.register("branch-and-bound")
def branch_and_bound(task: Task) -> Outcome:
    """Every box it closes is closed by bounds with all roundings counted, where it says so."""

    def progress(found: Progress) -> None:
        if task.told is not None:
            numbers = {"domains": found.domains, "waiting": found.waiting}
            task.told({**numbers, "bound": round(found.lower, 6)})

    options = SearchOptions(
        inputs=InputOptions(
            seed=task.seed, confirm=task.confirm, progress=progress, proof=task.proof
        ),
        relus=ReluOptions(confirm=task.confirm, progress=progress, proof=task.proof),
        curves=CurveOptions(confirm=task.confirm, progress=progress),
    )
    return search(task.graph, task.case, task.clock, options, task.inside)
