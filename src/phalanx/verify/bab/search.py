"""`search`: cases decided by branch and bound, by whichever kind suits the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from phalanx.bounds.outward.affine import AFFINE
from phalanx.bounds.prepare import prepare
from phalanx.graph.ir import CONSTANT, INPUT, Graph
from phalanx.graph.run import run
from phalanx.specs.property import Case
from phalanx.verdicts import Verdict
from phalanx.verify.bab.bounders import EngineBounder, dense_bounder
from phalanx.verify.bab.cases import side_by_side
from phalanx.verify.bab.curves import NAME as CURVES
from phalanx.verify.bab.curves import CurveOptions, split_curves
from phalanx.verify.bab.inputs import Bounder, InputOptions, Network, split_inputs
from phalanx.verify.bab.maxima import by_relus
from phalanx.verify.bab.nested import nested
from phalanx.verify.bab.relus import NAME as RELUS
from phalanx.verify.bab.relus import ReluOptions, split_relus
from phalanx.verify.bab.whole import Whole, on_whole_box, whole
from phalanx.verify.bounding import Inside, key_of
from phalanx.verify.outcome import CLOSING, TIMEOUT, Clock, Outcome, OutOfTime
from phalanx.verify.proof.passes import Net, net_of
from phalanx.verify.runtimes import type_of

FEW_INPUTS = 32
"""Free inputs up to which boxes of inputs are split."""

VERY_FEW_INPUTS = 16
"""Free inputs up to which nothing else is tried."""

SHARE = 0.6
"""Of the time, for splitting inputs where ReLUs may be split afterwards."""


@dataclass(frozen=True)
class SearchOptions:
    """How a search is made.

    Attributes:
        few: free inputs up to which boxes of inputs are split first.
        very_few: up to which the time is all theirs.
        inputs: see `InputOptions`.
        relus: see `ReluOptions`.
        curves: see `CurveOptions`.
    """

    few: int = FEW_INPUTS
    very_few: int = VERY_FEW_INPUTS
    inputs: InputOptions = field(default_factory=InputOptions)
    relus: ReluOptions = field(default_factory=ReluOptions)
    curves: CurveOptions = field(default_factory=CurveOptions)


def search(
    graph: Graph,
    cases: Case | Sequence[Case],
    clock: Clock,
    options: SearchOptions | None = None,
    inside: Inside | None = None,
) -> Outcome:
    """Decide cases together: VERIFIED only where none of them has a counterexample.

    Args:
        graph: the network, in its own type, not prepared.
        cases: whose boxes are searched in full; those of one box share its bounds.
        clock: when to stop.
        options: see `SearchOptions`.
        inside: what is known of the values in between on the first case's box.

    Raises:
        GraphError: an operator that is not bounded.
    """
    options = options or SearchOptions()
    every = [cases] if isinstance(cases, Case) else list(cases)
    free = max((int((case.lower < case.upper).sum()) for case in every), default=0)
    ready: Graph = prepare(graph.to(torch.float64), exact=True).to(torch.float64)
    found = None
    if free <= options.few:
        alone = free <= options.very_few
        part = clock if alone else clock.share(SHARE)
        found = _on_inputs(ready, every, _network(graph), part, options.inputs)
        if found.verdict is not Verdict.UNKNOWN or (alone and found.reason == TIMEOUT):
            return found
    split = by_relus(ready)
    if split is not ready:
        ready, inside = split, None
    if any(node.op not in (INPUT, CONSTANT, "relu", *AFFINE) for node in ready):
        after = _on_curves(ready, every, _network(graph), clock, options.curves, inside)
        return after if found is None or after.verdict is not Verdict.UNKNOWN else found
    net = net_of(graph) if options.relus.proof else None
    after = _on_relus(ready, every, _network(graph), clock, options.relus, inside=inside, net=net)
    return after if found is None or after.verdict is not Verdict.UNKNOWN else found


def _on_inputs(
    ready: Graph, cases: list[Case], network: Network, clock: Clock, options: InputOptions
) -> Outcome:
    together = side_by_side(cases)
    lower, upper = together.hull
    try:
        small = dense_bounder(ready, lower, upper, clock)
    except OutOfTime:
        return Outcome(Verdict.UNKNOWN, TIMEOUT)
    bounder: Bounder | None = nested(small, lower, upper)
    if bounder is None:
        bounder = EngineBounder(ready, lower, upper)
    return split_inputs(together, bounder, network, clock, options)


def _on_relus(
    ready: Graph,
    cases: list[Case],
    network: Network,
    clock: Clock,
    options: ReluOptions,
    *,
    inside: Inside | None = None,
    net: Net | None = None,
) -> Outcome:
    """Case by case; what the whole box says is found once for each box."""
    known: dict[bytes, Whole] = {}
    stats: dict[str, Any] = {"arithmetic": "outward", "domains": 0, "programs": 0, CLOSING: 0.0}
    lower, found = math.inf, Outcome(Verdict.VERIFIED, RELUS)
    if inside is not None:
        first = cases[0]
        box = key_of(first.lower, first.upper)
        known[box] = whole(ready, inside).checked_by(net, ready, first)
    for case in cases:
        key = key_of(case.lower, case.upper)
        try:
            if key not in known:
                same = [other for other in cases if key_of(other.lower, other.upper) == key]
                known[key] = on_whole_box(ready, same, clock).checked_by(net, ready, case)
        except OutOfTime:
            return Outcome(Verdict.UNKNOWN, TIMEOUT, stats=stats)
        found = split_relus(ready, case, network, clock, options, known[key])
        for name in ("domains", "programs", CLOSING):
            stats[name] += found.stats.get(name, 0)
        if found.verdict is not Verdict.VERIFIED:
            return replace(found, stats={**found.stats, **stats})
        lower = min(lower, math.inf if found.lower is None else found.lower)
    evidence = found.evidence if len(cases) == 1 else None
    return Outcome(Verdict.VERIFIED, RELUS, lower=lower, stats=stats, evidence=evidence)


def _on_curves(  # noqa: PLR0917 - of a search
    ready: Graph,
    cases: list[Case],
    network: Network,
    clock: Clock,
    options: CurveOptions,
    inside: Inside | None,
) -> Outcome:
    """Case by case; with what is known of the first one's box."""
    lower, domains, found = math.inf, 0, Outcome(Verdict.VERIFIED, CURVES)
    box = None if inside is None else key_of(cases[0].lower, cases[0].upper)
    for case in cases:
        known = inside is not None and key_of(case.lower, case.upper) == box
        boxes = inside.boxes if inside is not None and known else None
        found = split_curves(ready, case, network, clock, options, boxes)
        domains += found.stats["domains"]
        if found.verdict is not Verdict.VERIFIED:
            return replace(found, stats={**found.stats, "domains": domains})
        lower = min(lower, math.inf if found.lower is None else found.lower)
    return Outcome(Verdict.VERIFIED, CURVES, None, lower, {**found.stats, "domains": domains})


def _network(graph: Graph) -> Network:
    """Outputs ``(B, m)`` of flat inputs ``(B, n)``, in the network's own type."""
    kind = type_of(graph)

    def answers(x: Tensor) -> Tensor:
        return run(graph, x.to(kind).reshape(len(x), *graph.input.shape)).flatten(1)

    return answers
