"""One random network, its rechecked bounds, and exact arithmetic: a trial of the gate."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from fractions import Fraction

import torch
from bounds_exact import Exact, corners, negated, transcendental, written
from bounds_nets import CASES, around, network
from torch import Tensor

from phalanx.bounds.front import compute
from phalanx.bounds.options import Options
from phalanx.bounds.outward.passes import Passes
from phalanx.bounds.outward.recheck import outward_ball, recheck
from phalanx.bounds.prepare import prepare
from phalanx.bounds.problem import Trace
from phalanx.bounds.region import Region, box
from phalanx.graph.ir import Graph
from phalanx.graph.run import run
from phalanx.specs.threat import Threat

WAYS = (
    *("crown", "parallel", "interval", "alpha-crown", "full"),
    *("fast-c2v", "lp", "kpoly", "zonotope", "forward"),
)
"""Whose slopes and planes are checked again."""
NORMS = ("linf", "linf", "l2", "l1")
LOW, HIGH = -1.5, 1.5
"""Of valid inputs, which cut some of the balls."""

EVERY = 8
"""Of so many trials one looks at every value in between too."""


@dataclass(frozen=True)
class Trial:
    """What one network showed.

    Attributes:
        case: the operator it is built around.
        norm: of the ball; boxes of ``linf`` have sides of their own.
        eps: its size.
        way: whose slopes were checked again.
        exact: in rationals; else to fifty digits and more.
        bounds: comparisons of a finite bound with an answer.
        empty: bounds that say nothing.
        wrong: answers outside.
        single: answers outside of CROWN's bounds in single precision, roundings not counted.
    """

    case: str
    norm: str
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
    norm = NORMS[draw.randrange(len(NORMS))]
    own = network(case, seed)
    graph = prepare(own, exact=True).to(torch.float64)
    region = around(graph, eps, seed, batch=1) if norm == "linf" else _ball(graph, norm, eps, seed)
    unit = torch.eye(3, dtype=torch.float64)
    rows = torch.cat([unit, -unit])
    found = recheck(graph, region, rows, _trace(graph, region, rows, way))
    exact = Exact(written(own))
    points = corners(graph, region, seed) if norm == "linf" else _on_ball(graph, region)
    answers = [exact.values(x) for x in points]
    counts = [_against(exact, found, [v[graph.output] for v in answers])]
    if number % EVERY == 0:
        counts += _in_between(graph, region, points)
    single = _against(exact, _single(graph, region, rows), [v[graph.output] for v in answers])
    bounds, empty, wrong = map(sum, zip(*counts, strict=True))
    return Trial(case, norm, eps, way, not transcendental(own), bounds, empty, wrong, single[2])


def _trace(graph: Graph, region: Region, rows: Tensor, way: str) -> Trace:
    if way == "interval":
        return Trace(backward=False)
    if way in ("crown", "parallel"):
        return Trace(parallel=way == "parallel")
    options, method = Options(), way
    if way in ("alpha-crown", "full"):
        layers = "none" if way == "alpha-crown" else "full"
        method, options = "alpha-crown", Options(iterations=3, layers=layers)
    elif way == "lp":
        options = Options(cuts=1)
    single = region.to(torch.float32)
    if region.norm == "linf":
        single = box(single.lower, single.upper)
    found = compute(graph.to(torch.float32), single, method=method, rows=rows, options=options)
    return found.trace


def _ball(graph: Graph, norm: str, eps: float, seed: int) -> Region:
    random = torch.Generator().manual_seed(seed)
    x = torch.rand((1, *graph.input.shape), generator=random, dtype=torch.float64) * 2 - 1
    return outward_ball(Threat(norm, eps, LOW, HIGH), x)


def _on_ball(graph: Graph, region: Region) -> list[Tensor]:
    """Valid inputs of the ball that gradients at its centre call worst, in it by rationals."""
    x = region.centre.clone().requires_grad_(True)
    found = [region.centre[0]]
    for output in run(graph, x)[0]:
        (slope,) = torch.autograd.grad(output, x, retain_graph=True)
        way = slope / slope.norm()
        if region.norm == "l1":
            way = torch.where(slope.abs() == slope.abs().max(), slope.sign(), 0.0)
            way /= way.abs().sum()
        for sign in (1.0, -1.0):
            near = (x.detach() + sign * region.eps * way.nan_to_num(0.0)).clamp(LOW, HIGH)
            found += [near[0]] if _within(near[0], region) else []
            almost = x.detach() + (1 - 2.0**-40) * (near - x.detach())
            found += [almost[0]] if _within(almost[0], region) else []
    return found


def _within(x: Tensor, region: Region) -> bool:
    ways = [
        abs(Fraction(a) - Fraction(b))
        for a, b in zip(x.flatten().tolist(), region.centre.flatten().tolist(), strict=True)
    ]
    if region.norm == "l1":
        return sum(ways) <= Fraction(region.eps)
    return sum(way * way for way in ways) <= Fraction(region.eps) ** 2


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
