"""One random network, its rechecked bounds, and exact arithmetic: a trial of the gate."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
from bounds_exact import Exact, corners, negated, transcendental, written
from bounds_nets import CASES, around, network
from torch import Tensor

from phalanx.bounds.front import compute
from phalanx.bounds.options import Options
from phalanx.bounds.outward.passes import Passes
from phalanx.bounds.outward.recheck import recheck
from phalanx.bounds.prepare import prepare
from phalanx.bounds.problem import Trace
from phalanx.bounds.region import Region, box
from phalanx.graph.ir import Graph

WAYS = ("crown", "parallel", "interval", "alpha-crown", "full")
"""Whose slopes are checked again."""

EVERY = 8
"""Of so many trials one looks at every value in between too."""


@dataclass(frozen=True)
class Trial:
    """What one network showed.

    Attributes:
        case: the operator it is built around.
        eps: the size of its box.
        way: whose slopes were checked again.
        exact: in rationals; else to fifty digits and more.
        bounds: comparisons of a finite bound with an answer.
        empty: bounds that say nothing.
        wrong: answers outside.
        single: answers outside of CROWN's bounds in single precision, roundings not counted.
    """

    case: str
    eps: float
    way: str
    exact: bool
    bounds: int
    empty: int
    wrong: int
    single: int


def trial(number: int) -> Trial:
    """The trial of that number, which follows from it alone."""
    case, seed = CASES[number % len(CASES)], 1000 + number // len(CASES)
    draw = random.Random(f"outward gate {number}")
    eps, way = 10 ** draw.uniform(-8, 0), WAYS[draw.randrange(len(WAYS))]
    own = network(case, seed)
    graph = prepare(own, exact=True).to(torch.float64)
    region = around(graph, eps, seed, batch=1)
    unit = torch.eye(3, dtype=torch.float64)
    rows = torch.cat([unit, -unit])
    found = recheck(graph, region, rows, _trace(graph, region, rows, way))
    exact = Exact(written(own))
    points = corners(graph, region, seed)
    answers = [exact.values(x) for x in points]
    counts = [_against(exact, found, [v[graph.output] for v in answers])]
    if number % EVERY == 0:
        counts += _in_between(graph, region, points)
    single = _against(exact, _single(graph, region, rows), [v[graph.output] for v in answers])
    bounds, empty, wrong = map(sum, zip(*counts, strict=True))
    return Trial(case, eps, way, not transcendental(own), bounds, empty, wrong, single[2])


def _trace(graph: Graph, region: Region, rows: Tensor, way: str) -> Trace:
    if way == "interval":
        return Trace(backward=False)
    if way in ("crown", "parallel"):
        return Trace(parallel=way == "parallel")
    options = Options(iterations=3, layers="none" if way == "alpha-crown" else "full")
    single = box(region.lower.float(), region.upper.float())
    return compute(
        graph.to(torch.float32), single, method="alpha-crown", rows=rows, options=options
    ).trace


def _single(graph: Graph, region: Region, rows: Tensor) -> Tensor:
    """CROWN's bounds in float32, on the box as it is in float32."""
    found = compute(graph.to(torch.float32), region.to(torch.float32), method="crown", rows=rows)
    return found.lower[0].double()


def _in_between(graph: Graph, region: Region, points: list[Tensor]) -> list:
    """Every box that a recheck rests on, of the graph that it walks."""
    passes, exact, counts = Passes(graph, region), Exact(graph), []
    answers = [exact.values(x) for x in points]
    for node in graph:
        side = passes.sides[node.name]
        ends = torch.cat([side.lower.flatten(), -side.upper.flatten()])
        counts.append(_against(exact, ends, [value[node.name] for value in answers]))
    return counts


def _against(exact: Exact, lower: Tensor, answers: list) -> tuple[int, int, int]:
    """Comparisons, bounds that say nothing, and answers outside."""
    bounds = [exact.number(v) if math.isfinite(v) else None for v in lower.tolist()]
    above = [v for v in lower.tolist() if v == math.inf or math.isnan(v)]
    known = [at for at, bound in enumerate(bounds) if bound is not None]
    wrong = len(above)  # a lower bound that is plus infinity or no number is one too many
    for value in answers:
        both = negated(value)
        wrong += sum(not bounds[at] <= both[at] for at in known)
    return len(known) * len(answers), len(bounds) - len(known), wrong
