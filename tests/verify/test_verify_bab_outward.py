"""Sub-problems closed outward: against rational arithmetic, bad multipliers, what roundings do."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest
import torch
from bab_nets import drawn
from verify_nets import affine, case, double, exactly, tent

from phalanx.bounds.prepare import prepare
from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case
from phalanx.verdicts import Verdict
from phalanx.verify.bab.ascent import Steps
from phalanx.verify.bab.bent import bent
from phalanx.verify.bab.outward import Counted, Decided
from phalanx.verify.bab.relus import ReluOptions, split_relus
from phalanx.verify.bab.splits import Units
from phalanx.verify.bab.whole import on_whole_box
from phalanx.verify.outcome import Clock, OutOfTime


def ready(graph: Graph) -> Graph:
    return prepare(graph.to(torch.float64)).to(torch.float64)


def closer(graph: Graph, own: Case) -> tuple[Counted, Units]:
    made = ready(graph)
    known = on_whole_box(made, own, Clock()).units
    return Counted(Decided(made, own, Clock()), own, known), known


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mixed", [False, True])
def test_bounds_hold_in_rational_arithmetic(seed: int, mixed: bool) -> None:
    """Random slopes, multipliers and shares: no point with the signs is below the bound."""
    graph = drawn(seed, ((4, 3), (5,), (3, 2, 2))[seed % 3], skip=seed % 2 == 0)
    own = case([[1.0, -0.3], [0.5, -1.0]], [0.1, -0.7])
    if mixed:
        inputs = torch.tensor([[0.7, 0.0], [-0.1, 0.3]], dtype=torch.float64)
        own = Case(own.lower, own.upper, own.outputs, own.offset, inputs)
    counted, units = closer(graph, own)
    draw = torch.Generator().manual_seed(seed)
    signs = torch.randint(-1, 2, (8, len(units)), generator=draw)
    alpha, beta = (torch.rand(8, len(units), generator=draw).double() for _ in range(2))
    shares = torch.rand(8, 2, generator=draw).double()
    found = counted.least(signs, alpha, 3 * beta, shares)
    assert bool(torch.isfinite(found).all())
    names = [
        (n.inputs[0], int(e)) for n, es in zip(units.nodes, units.entries, strict=True) for e in es
    ]
    for a, b in product(range(-4, 5), repeat=2):
        x = [Fraction(a, 4), Fraction(b, 4)]
        values = exactly(graph, x)
        z = [values[name][entry] for name, entry in names]
        rows = []
        for j in range(2):
            y = zip(own.outputs[j].tolist(), values[graph.output], strict=True)
            total = sum((Fraction(c) * v for c, v in y), Fraction(own.offset[j].item()))
            if own.inputs is not None:
                total += sum(
                    Fraction(c) * v for c, v in zip(own.inputs[j].tolist(), x, strict=True)
                )
            rows.append(total)
        for d in range(8):
            if all(s * v >= 0 for s, v in zip(signs[d].tolist(), z, strict=True)):
                mean = sum(Fraction(w) * r for w, r in zip(shares[d].tolist(), rows, strict=True))
                for s, m, v in zip(signs[d].tolist(), beta[d].tolist(), z, strict=True):
                    mean -= s * 3 * Fraction(m) * v
                assert Fraction(found[d].item()) <= mean


def test_bad_numbers_are_no_bound() -> None:
    graph, own = drawn(1, (4, 2)), case([[1.0, -1.0]], [50.0])
    counted, units = closer(graph, own)
    signs = torch.ones(1, len(units))
    none, one = torch.zeros(1, len(units)), torch.ones(1, 1)
    assert counted.least(signs, none, none, one).item() > 0
    assert counted.least(signs, none, none, -one).item() <= 0
    assert counted.least(signs, none, none, torch.full((1, 1), torch.nan)).item() <= 0
    open_ = torch.zeros(1, len(units))
    assert counted.least(open_, none * torch.nan, none, one).item() == -torch.inf
    # A multiplier with the wrong sign, or of an open unit, is nothing.
    plain = counted.least(signs, none, none, one)
    assert torch.equal(counted.least(signs, none, none - 3, one), plain)
    assert torch.equal(
        counted.least(open_, none, none + 3, one), counted.least(open_, none, none, one)
    )


def cancelling(offset: float) -> tuple[Graph, Case]:
    """``0.1 h + 0.2 h - 0.3 h``: in floats not what it is in truth."""
    last = affine([[0.1, 0.2, -0.3], [0, 0, 0]], [0.0, 0.0], kind=torch.float64)
    first = affine([[1.0]] * 3, [0.0] * 3, kind=torch.float64)
    nodes = (
        Node("x", "input", (), (1,)),
        Node("z", "linear", ("x",), (3,), {}, first),
        Node("h", "relu", ("z",), (3,)),
        Node("y", "linear", ("h",), (2,), {}, last),
    )
    own = Case(double(-1), double(1), double(1, 0)[None], double(offset))
    return Graph(nodes, "y"), own


@pytest.mark.parametrize(("offset", "proven"), [(1e-17, False), (1e-12, True)])
def test_what_only_roundings_prove_is_left_open(offset: float, proven: bool) -> None:
    """0.1 + 0.2 - 0.3 in exact arithmetic of float64's numbers is 2.8e-17 above zero."""
    graph, own = cancelling(offset)
    options = ReluOptions(Steps(iterations=0), Steps(iterations=0))
    found = split_relus(ready(graph), own, lambda x: torch.ones(len(x), 2), Clock(60.0), options)
    assert found.verdict is (Verdict.VERIFIED if proven else Verdict.UNKNOWN)
    assert found.stats["arithmetic"] == "outward"


def test_time_is_looked_at() -> None:
    graph = drawn(1, (4, 3))
    with pytest.raises(OutOfTime):
        Decided(ready(graph), case([[1.0, -1.0]], [50.0]), Clock(1e-9))


def test_sums_of_many_rows_are_charged_for_each() -> None:
    """The same sum of exact numbers, as one row and as a thousand: only the charges differ."""
    graph, many = tent(kind=torch.float64), 1000
    bounds = []
    for count in (1, many):
        own = case([[many / count, 0.0]] * count, [0.0] * count)
        counted, units = closer(graph, own)
        none = torch.zeros(1, len(units))
        bounds.append(counted.least(none, none, none, torch.ones(1, count)).item())
    assert bounds[0] <= 0
    largest = 2.0
    assert bounds[1] <= bounds[0] - 0.9 * many * 2**-53 * many * largest


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_lines_of_relus_are_above_and_below_in_rational_arithmetic(kind: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    size = 10 ** (6 * torch.rand(400, generator=draw) - 3)
    lower = (-torch.rand(400, generator=draw) * size).to(kind)[None]
    upper = (torch.rand(400, generator=draw) * size.flip(0)).to(kind)[None]
    lines = bent(Node("", "relu", (), (400,)), lower, upper)
    parts = (lines.low_slope, lines.high_slope, lines.high, lines.middle, lines.spread)
    for at, ends in enumerate(zip(lower[0].tolist(), upper[0].tolist(), strict=True)):
        low, slope, high, middle, spread = (Fraction(part[0, at].item()) for part in parts)
        for x in (Fraction(ends[0]), Fraction(0), Fraction(ends[1])):
            assert low * x <= max(x, 0) <= slope * x + high
            assert abs(max(x, 0) - slope * x - middle) <= spread
