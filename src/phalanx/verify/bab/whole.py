"""What is found once about the whole box of a case, before signs of its ReLUs are decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from phalanx.bounds.options import Options
from phalanx.bounds.outward.passes import NOTHING, Known
from phalanx.bounds.problem import Between, Problem, methods
from phalanx.graph.ir import Graph
from phalanx.specs.property import Case
from phalanx.verify.bab.compact import Compact, compact
from phalanx.verify.bab.outward import Counted, Decided
from phalanx.verify.bab.proved import Checked, Proved, as_checked, boxes_of
from phalanx.verify.bab.splits import Units, units
from phalanx.verify.bounding import Inside, Timed, inside_of
from phalanx.verify.outcome import Clock
from phalanx.verify.proof.passes import Net

ROOT = 0.2
"""Of the time, for bounds on the whole box."""

KEPT = "open ReLUs"
"""The name by which an `Inside` keeps what was made of it."""


@dataclass(eq=False)
class Whole:
    """What is found once for each box, whichever of its cases asks.

    Attributes:
        units: the ReLUs that bounds leave open, with their boxes: what the search goes by.
        between: how these boxes were found.
        base: the network between these ReLUs, made when it is first needed.
        passes: boxes that hold outward, made when a sub-problem is to be closed for the first time.
        checked: boxes of a proof's checker; None: no proof is asked for.
    """

    units: Units
    between: Mapping[str, Between] = field(default_factory=dict)
    sound: Known = NOTHING
    base: Compact | None = None
    passes: Decided | None = None
    checked: Checked | None = None

    def checked_by(self, net: Net | None, graph: Graph, case: Case) -> Whole:
        """The same by the boxes of a proof's checker, which has this network; None: as it is."""
        if net is None:
            return self
        checked = boxes_of(net, case)
        return Whole(as_checked(graph, self.units, checked), checked=checked)

    def compacted(self, graph: Graph, case: Case, clock: Clock) -> Compact:
        """The network between the open ReLUs.

        Raises:
            OutOfTime: the clock ran out.
        """
        self.base = self.base or compact(graph, case, self.units, clock)
        return self.base

    def closer(self, graph: Graph, case: Case, clock: Clock) -> Counted | Proved:
        """Who closes the sub-problems of a case of this box.

        Raises:
            OutOfTime: the clock ran out.
        """
        if self.checked is not None:
            return Proved(self.checked, case, self.units)
        self.passes = self.passes or Decided(graph, case, clock, self.between, self.sound)
        self.passes.clock = clock
        return Counted(self.passes, case, self.units)


def on_whole_box(graph: Graph, cases: Case | Sequence[Case], clock: Clock) -> Whole:
    """The ReLUs that alpha-CROWN in full leaves open on the box of some cases.

    Args:
        graph: from `prepare`, in float64.
        cases: of one box; bounds in between are moved for the sake of their rows.
        clock: a part of its time is spent.

    Raises:
        OutOfTime: the clock ran out.
    """
    every = [cases] if isinstance(cases, Case) else list(cases)
    box = every[0].lower, every[0].upper
    lower, upper = (side.reshape(1, *graph.input.shape) for side in box)
    region = Timed(lower, upper, (lower + upper) / 2, clock=clock)
    rows = torch.cat([case.outputs for case in every])
    rows = rows.reshape(-1, 1, *graph[graph.output].shape)
    part = clock.share(ROOT)
    problem = Problem(graph, region, rows, Options(layers="full"), go_on=lambda: not part.expired())
    with torch.no_grad():
        methods.get("alpha-crown")(problem)
    inside = inside_of(problem.trace)
    if inside is None:
        raise RuntimeError("alpha-CROWN left no boxes")
    return whole(graph, inside)


def whole(graph: Graph, inside: Inside) -> Whole:
    """What is known of a box, for all its cases."""
    if KEPT not in inside.kept:
        inside.kept[KEPT] = Whole(units(graph, inside.boxes), inside.between, inside.sound)
    found: Whole = inside.kept[KEPT]
    return found
