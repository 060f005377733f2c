"""Splitting ReLUs: against all activation patterns, planted faults, programs, deadlines."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bab_nets import drawn, least
from torch import Tensor
from verify_nets import case

from phalanx.bounds.prepare import prepare
from phalanx.graph.ir import Graph
from phalanx.graph.run import GraphNetwork, run
from phalanx.specs.property import Case
from phalanx.verdicts import Verdict
from phalanx.verify.bab import relus
from phalanx.verify.bab.ascent import Ascent, Climbed, Steps
from phalanx.verify.bab.leaf import solved
from phalanx.verify.bab.outward import Counted, Decided
from phalanx.verify.bab.relus import ReluOptions, split_relus
from phalanx.verify.bab.search import SearchOptions, search
from phalanx.verify.bab.splits import Units, halves, root, units
from phalanx.verify.bab.whole import on_whole_box
from phalanx.verify.outcome import TIMEOUT, Clock, Outcome

WIDTHS = ((4,), (3, 2), (4, 2), (2, 2, 1), (3, 3))
ROWS = ([[1.0, -1.0]], [[1.0, 0.0], [0.5, -1.0]])
SHORT = ReluOptions(Steps(iterations=6), Steps(iterations=3))


def ready(graph: Graph) -> Graph:
    return prepare(graph.to(torch.float64)).to(torch.float64)


def decided(graph: Graph, own: Case, options: ReluOptions = SHORT) -> Outcome:
    network = GraphNetwork(graph.to(torch.float64))
    return split_relus(ready(graph), own, network, Clock(60.0), options)


def against_patterns(seeds: range, options: ReluOptions = SHORT) -> None:
    for seed in seeds:
        graph = drawn(seed, WIDTHS[seed % len(WIDTHS)], skip=seed % 3 == 0)
        rows = ROWS[seed % 2]
        truth = least(graph, case(rows, [0.0] * len(rows)))
        for slack in (0.02, -0.02):
            own = case(rows, [slack - truth] * len(rows))
            found = decided(graph, own, options)
            assert found.verdict is (Verdict.VERIFIED if slack > 0 else Verdict.FALSIFIED), seed
            if found.witness is not None:
                y = run(graph.to(torch.float64), found.witness[None])
                assert bool(own.holds(found.witness[None], y).all())
            elif found.lower is not None:
                assert found.lower <= slack + 1e-6


def test_all_activation_patterns() -> None:
    against_patterns(range(14))


def test_where_nothing_is_open_a_program_decides() -> None:
    against_patterns(range(115, 116))


def test_programs_decide_what_bounds_leave_open() -> None:
    """Without an ascent, and without candidates: everything is split to the end."""
    against_patterns(range(8), ReluOptions(Steps(iterations=0), Steps(iterations=0), candidates=1))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_activation_patterns_of_five_hundred() -> None:
    against_patterns(range(100, 600))


def test_bounds_hold_under_decided_signs() -> None:
    """Points of the box with the signs of a domain are never below its bound."""
    graph, own = drawn(11, (5, 4), skip=True), case(ROWS[1], [0.0, 0.0])
    made = ready(graph)
    known = on_whole_box(made, own, Clock()).units
    low, high = known.sides(torch.float64)
    first = root(len(known), (high > -low).float(), 2)
    at = torch.zeros(1, dtype=torch.long)
    domains = halves(halves(first, at), torch.ones(2, dtype=torch.long))
    found = Ascent(made, own, known, Clock()).climb(domains, Steps(iterations=20))
    side = torch.linspace(-1, 1, 101, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    from phalanx.graph.run import execute

    values = execute(made, grid, lambda node: node, keep=True)
    z = known.gathered({node.name: values[node.inputs[0]] for node in known.nodes})
    rows = own.values(grid, values[made.output]).amax(1)
    for domain in range(4):
        there = ((z * domains.signs[domain]) >= 0).all(1)
        if bool(there.any()):
            assert float(rows[there].min()) >= float(found.bound[domain]) - 1e-9
    once = Ascent(made, own, known, Clock()).once(domains)
    assert bool((found.bound >= once - 1e-12).all())


def closers(graph: Graph, own: Case) -> tuple[Graph, Units, Counted]:
    made = ready(graph)
    known = on_whole_box(made, own, Clock()).units
    return made, known, Counted(Decided(made, own, Clock()), own, known)


@pytest.mark.parametrize("slack", [1e-5, -1e-5])
def test_leaves_are_solved_exactly(slack: float) -> None:
    """All patterns are closed by their programs' multipliers just where the truth is above zero."""
    graph = drawn(4, (3, 3))
    own = case(ROWS[1], [slack - least(graph, case(ROWS[1], [0.0, 0.0]))] * 2)
    made, known, counted = closers(graph, own)
    every = torch.cartesian_prod(*[torch.tensor([-1, 1])] * len(known)).reshape(-1, len(known))
    leaves = [solved(made, own, known, signs) for signs in every]
    beta, shares = (torch.stack([getattr(leaf, k) for leaf in leaves]) for k in ("beta", "shares"))
    found = counted.least(every, torch.zeros(1, 1).expand(every.shape), beta, shares)
    assert bool((found > 0).all()) == (slack > 0)
    points = torch.stack([leaf.point for leaf in leaves if leaf.point is not None])
    unsafe = own.holds(points, run(graph.to(torch.float64), points))
    assert bool(unsafe.any()) == (slack < 0)


@pytest.mark.parametrize("fault", ["bound", "side", "ascent"])
def test_planted_faults_are_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def promising(self: Ascent, *args: object) -> Climbed:
        found = climb(self, *args)  # type: ignore[arg-type]
        return replace(found, bound=found.bound + 0.5)

    def lost(domains: object, at: Tensor) -> object:
        both = true_halves(domains, at)  # type: ignore[arg-type]
        return both[: len(both) // 2]

    if fault == "bound":
        honest = Counted.least
        monkeypatch.setattr(Counted, "least", lambda self, *parts: honest(self, *parts) + 0.5)
    elif fault == "ascent":
        climb = Ascent.climb
        monkeypatch.setattr(Ascent, "climb", promising)
    elif fault == "side":
        true_halves = halves
        monkeypatch.setattr(relus, "halves", lost)
        monkeypatch.setattr(relus._Search, "_gain", lambda self, d, at: d.bound)
    lazy = ReluOptions(Steps(iterations=0), Steps(iterations=0), candidates=1)
    if fault == "ascent":  # it is not believed, so nothing happens
        against_patterns(range(8), lazy)
        return
    with pytest.raises(AssertionError):
        against_patterns(range(30), lazy)


def test_exceptions_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Ascent, "climb", broken)
    with pytest.raises(MemoryError):
        decided(drawn(1, (3,)), case([[1.0, 0.0]], [50.0]))


def test_nan_is_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def blank(self: Ascent, *args: object) -> Climbed:
        found = honest(self, *args)  # type: ignore[arg-type]
        return replace(found, bound=torch.full_like(found.bound, torch.nan))

    honest = Ascent.climb
    monkeypatch.setattr(Ascent, "climb", blank)
    found = decided(drawn(1, (3,)), case([[0.0, 0.0]], [0.0]))
    assert found.verdict is not Verdict.VERIFIED


def test_no_time_is_unknown() -> None:
    graph = drawn(1, (3, 3))
    network = GraphNetwork(graph)
    found = split_relus(ready(graph), case([[1.0, 0.0]], [5.0]), network, Clock(1e-9))
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, TIMEOUT)


def test_what_was_taken_when_time_ran_out_is_still_open() -> None:
    graph = drawn(8, (5, 4))
    own = case([[1.0, -1.0]], [0.001 - least(graph, case([[1.0, -1.0]], [0.0]))])
    asked = [0]

    def network(x: Tensor) -> Tensor:
        asked[0] += 1
        clock._seconds = -1.0 if asked[0] > 2 else 1e9
        return run(graph, x.float())

    clock = Clock(1e9)
    found = split_relus(ready(graph), own, network, clock, SHORT)
    if found.verdict is Verdict.UNKNOWN:
        assert found.lower is not None
        assert found.lower <= 0.001 + 1e-6


def test_other_curves_are_refused() -> None:
    graph = drawn(1, (3,))
    nodes = tuple(replace(n, op="tanh") if n.op == "relu" else n for n in graph)
    found = decided(Graph(nodes, "y"), case([[1.0, 0.0]], [5.0]))
    assert found.verdict is Verdict.UNKNOWN
    assert "tanh" in found.reason


def test_cases_of_one_box_share_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    from phalanx.verify.bab import search as searching

    counted: list[int] = []

    def counting(*args: object) -> object:
        counted.append(1)
        return on_whole_box(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(searching, "on_whole_box", counting)
    graph, options = drawn(2, (4, 2)), SearchOptions(few=0, very_few=0, relus=SHORT)
    both = []
    for rows in ([[1.0, 0.0]], [[-1.0, 0.5]]):
        both.append(case(rows, [0.05 - least(graph, case(rows, [0.0]))]))
    found = search(graph, both, Clock(60.0), options)
    assert (found.verdict, len(counted)) == (Verdict.VERIFIED, 1)
    worse = [both[0], replace(both[1], offset=both[1].offset - 0.1)]
    assert search(graph, worse, Clock(60.0), options).verdict is Verdict.FALSIFIED


def test_units_are_spread_and_gathered() -> None:
    graph, own = drawn(3, (4, 3)), case(ROWS[0], [0.0])
    made = ready(graph)
    known = on_whole_box(made, own, Clock()).units
    values = torch.arange(2.0 * len(known)).reshape(2, -1)
    assert torch.equal(known.gathered(known.spread(values)), values)
    assert len(units(made, known.boxes)) == len(known)
