"""Input splitting: against all activation patterns, planted faults, deadlines, memory."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from fractions import Fraction

import pytest
import torch
from bab_nets import drawn, least
from torch import Tensor
from verify_nets import case, double, tent

from phalanx.bounds.outward.rounding import down
from phalanx.bounds.prepare import prepare
from phalanx.errors import DataError
from phalanx.graph.ir import Graph, Node
from phalanx.graph.run import GraphNetwork, run
from phalanx.specs.property import Case
from phalanx.verdicts import Verdict
from phalanx.verify.bab import inputs as splitting
from phalanx.verify.bab.bounders import DenseBounder, EngineBounder, dense_bounder
from phalanx.verify.bab.cases import side_by_side
from phalanx.verify.bab.inputs import InputOptions, inward, split_inputs
from phalanx.verify.bab.pool import Boxes, Pool
from phalanx.verify.bab.search import SearchOptions, search
from phalanx.verify.bab.walk import Linear, Walk
from phalanx.verify.outcome import EXHAUSTED, TIMEOUT, Clock

WIDTHS = ((4,), (3, 2), (4, 2), (2, 2, 1), (3, 3))
ROWS = ([[1.0, -1.0]], [[1.0, 0.0], [0.5, -1.0]])


def judged(graph: Graph, rows: list[list[float]], truth: float, slack: float) -> None:
    """A case whose least value is ``slack`` is decided rightly, by both kinds of bounds."""
    own = case(rows, [slack - truth] * len(rows))
    found = search(graph, own, Clock(60.0))
    assert found.verdict is (Verdict.VERIFIED if slack > 0 else Verdict.FALSIFIED)
    if found.witness is not None:
        assert bool(own.holds(found.witness[None], run(graph, found.witness[None].float())).all())
    elif found.lower is not None:
        assert found.lower <= slack + 1e-6
        assert found.stats["arithmetic"] == "outward"


def against_patterns(seeds: range, shapes: tuple[tuple[int, ...], ...]) -> None:
    for seed in seeds:
        graph = drawn(seed, shapes[seed % len(shapes)], skip=seed % 3 == 0)
        rows = ROWS[seed % 2]
        truth = least(graph, case(rows, [0.0] * len(rows)))
        for slack in (0.02, -0.02):
            judged(graph, rows, truth, slack)


def test_all_activation_patterns() -> None:
    against_patterns(range(100), WIDTHS)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("block", range(4))
def test_all_activation_patterns_of_two_thousand(block: int) -> None:
    start = 100 + 500 * block
    against_patterns(range(start, start + 490), (*WIDTHS, (5, 3), (4, 4)))
    against_patterns(range(start + 490, start + 500), ((6, 4), (4, 4, 4), (8, 4), (6, 6)))


def test_what_the_patterns_say_is_what_points_say() -> None:
    """The test of the test: no point of a grid is below the least value, one comes near."""
    graph, own = drawn(3, (3, 3), skip=True), case(ROWS[1], [0.0, 0.0])
    side = torch.linspace(-1, 1, 201)
    grid = torch.cartesian_prod(side, side)
    found = own.values(grid, run(graph, grid)).amax(1).min().item()
    truth = least(graph, own)
    assert truth - 1e-5 <= found <= truth + 0.1


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("op", ["relu", "tanh", "sigmoid", "leaky-relu"])
def test_linear_functions_stay_below(kind: torch.dtype, op: str) -> None:
    graph = drawn(5, (6, 5), skip=True)
    slope = {"slope": 0.1} if op == "leaky-relu" else {}
    nodes = [replace(n, op=op, attributes=slope) if n.op == "relu" else n for n in graph]
    graph = prepare(Graph(tuple(nodes), "y").to(torch.float64))
    bounder = dense_bounder(graph, double(-1, -1), double(1, 1))
    assert bounder is not None
    draw = torch.Generator().manual_seed(1)
    centre = torch.rand(40, 2, dtype=torch.float64, generator=draw) * 1.6 - 0.8
    half = torch.rand(40, 2, dtype=torch.float64, generator=draw) * 0.2
    rows = torch.randn(3, 40, 2, generator=draw).double()
    walk = Walk(bounder.network.to(kind), centre - half, centre + half)
    found = walk.least(rows.to(kind), None, torch.zeros(3, 40, dtype=kind))
    inside = torch.rand(50, 40, 2, dtype=torch.float64, generator=draw) * 2 - 1
    points = centre + half * torch.cat([inside, inside.sign()])
    values = run(graph, points.reshape(-1, 2)).reshape(100, 40, 2)
    exact = torch.einsum("sbm,pbm->psb", rows, values)
    line = torch.einsum("sbj,pbj->psb", found.coefficients.double(), points)
    assert bool((exact >= line + found.constant.double()).all())
    assert bool((exact >= found.lower.double()).all())
    assert float((exact.amin(0) - found.lower).mean()) < 0.6


def test_single_precision_counts_its_roundings() -> None:
    """``0.5 - relu(relu(x + 2^25) - 2^25)``: in float32 the sum swallows x, at most 1."""
    one = torch.ones(1, 1)
    far = torch.full((1,), 2.0**25)
    nodes = (
        Node("x", "input", (), (1,)),
        Node("a", "linear", ("x",), (1,), {}, {"weight": one, "bias": far}),
        Node("b", "relu", ("a",), (1,)),
        Node("c", "linear", ("b",), (1,), {}, {"weight": one, "bias": -far}),
        Node("d", "relu", ("c",), (1,)),
        Node("y", "linear", ("d",), (1,), {}, {"weight": -one, "bias": 0.5 * torch.ones(1)}),
    )
    own = Case(double(0), double(1), double(1)[None], double(0))
    found = search(Graph(nodes, "y"), own, Clock(1.0))
    assert found.verdict is not Verdict.VERIFIED  # y(1) = -0.5 in exact arithmetic


def test_cases_of_several_boxes_are_decided_together() -> None:
    graph = drawn(1, (4, 3))
    values = [least(graph, own) for own in _halves(0.0)]
    pairs = zip(_halves(0.0), values, strict=True)
    safe = [replace(own, offset=own.offset - v + 0.05) for own, v in pairs]
    assert search(graph, safe, Clock(30.0)).verdict is Verdict.VERIFIED
    one = [safe[0], replace(safe[1], offset=safe[1].offset - 0.1)]
    found = search(graph, one, Clock(30.0))
    assert found.witness is not None
    assert float(found.witness[0]) >= 0  # the second box


def _halves(offset: float) -> list[Case]:
    row, shift = torch.tensor([[1.0, -1.0]], dtype=torch.float64), double(offset)
    return [
        Case(double(-1, -1), double(0, 1), row, shift),
        Case(double(0, -1), double(1, 1), row, shift),
    ]


def test_inputs_that_cannot_move_count_in_rows_over_inputs() -> None:
    row = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    for level, verdict in ((0.85, Verdict.VERIFIED), (0.95, Verdict.FALSIFIED)):
        none = torch.zeros(1, 2, dtype=torch.float64)
        own = Case(double(0, 0.3), double(1, 0.3), none, double(-level), row)
        found = search(drawn(2, (3,)), own, Clock(5.0))
        assert found.verdict is verdict, level


def test_a_point_is_decided() -> None:
    graph, at = drawn(4, (3, 2)), double(0.25, -0.5)
    y = run(graph, at[None].float())[0].double()
    row = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for slack, verdict in ((0.1, Verdict.VERIFIED), (-0.1, Verdict.FALSIFIED)):
        own = Case(at, at, row, double(slack - float(y[0])))
        assert search(graph, own, Clock(5.0)).verdict is verdict


@pytest.mark.parametrize("fault", ["lower", "constant", "coefficients"])
def test_planted_faults_are_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that promise too much turn wrong answers out of the comparison with patterns."""

    def promising(self: DenseBounder, *args: Tensor) -> Linear:
        found = honest(self, *args)
        parts = {part.name: getattr(found, part.name) for part in fields(Linear)}
        parts[fault] = parts[fault] + 0.5 if fault != "coefficients" else -parts[fault]
        return Linear(**parts)

    honest = DenseBounder.least
    monkeypatch.setattr(DenseBounder, "least", promising)
    with pytest.raises(AssertionError):
        against_patterns(range(30), WIDTHS)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_is_no_bound(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def blank(self: DenseBounder, *args: Tensor) -> Linear:
        found = honest(self, *args)
        parts = {p.name: torch.full_like(getattr(found, p.name), value) for p in fields(Linear)}
        return Linear(**parts)

    honest = DenseBounder.least
    monkeypatch.setattr(DenseBounder, "least", blank)
    found = search(drawn(1, (3,)), case([[0.0, 0.0]], [1.0]), Clock(0.5))
    assert found.verdict is Verdict.UNKNOWN


def test_exceptions_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: DenseBounder, *args: Tensor) -> Linear:
        raise MemoryError

    monkeypatch.setattr(DenseBounder, "least", broken)
    with pytest.raises(MemoryError):
        search(drawn(1, (3,)), case([[1.0, 0.0]], [50.0]), Clock(5.0))


def test_a_strict_row_must_be_below_zero() -> None:
    """``y_0 > 2`` never happens, ``y_0 >= 2`` does, in the corners; nobody is asked to confirm."""
    edge = case([[-1.0, 0.0]], [2.0])
    strict = replace(edge, strict=torch.tensor([True]))
    assert search(tent(), edge, Clock(20.0)).verdict is Verdict.FALSIFIED
    assert search(tent(), strict, Clock(1.0)).verdict is not Verdict.FALSIFIED
    above = replace(strict, offset=double(1.75))
    assert search(tent(), above, Clock(20.0)).verdict is Verdict.FALSIFIED
    together = side_by_side([edge, replace(strict, lower=double(-1.0, 0.0))])
    x, y = double(1.0, 1.0).expand(2, -1), double(2.0, 1.0).expand(2, -1)
    assert together.unsafe(torch.tensor([0, 1]), x, y).tolist() == [True, False]


def test_no_time_is_unknown() -> None:
    found = search(drawn(1, (3, 3)), case([[1.0, 0.0]], [50.0]), Clock(1e-9))
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, TIMEOUT)


def test_a_tie_runs_until_nothing_can_be_cut() -> None:
    """The least value is zero at 1/3 only, which is no number: neither answer can be given."""
    weight = torch.tensor([[3.0], [-3.0]])
    nodes = (
        Node("x", "input", (), (1,)),
        Node("z", "linear", ("x",), (2,), {}, {"weight": weight, "bias": double(-1, 1).float()}),
        Node("h", "relu", ("z",), (2,)),
        Node("y", "linear", ("h",), (1,), {}, {"weight": torch.ones(1, 2)}),
    )
    own = Case(double(0.1), double(1), double(1)[None], double(0))
    found = search(Graph(nodes, "y"), own, Clock(20.0))
    assert found.verdict is not Verdict.VERIFIED
    if found.verdict is Verdict.UNKNOWN:
        assert found.reason in (EXHAUSTED, TIMEOUT)


def test_the_general_engine_decides_the_same() -> None:
    for seed in range(6):
        graph = drawn(seed, (3, 3))
        truth = least(graph, case(ROWS[1], [0.0, 0.0]))
        for slack in (0.05, -0.05):
            own = case(ROWS[1], [slack - truth] * 2)
            together = side_by_side([own])
            ready = prepare(graph.to(torch.float64))
            bounder = EngineBounder(ready, *together.hull)
            found = split_inputs(
                together, bounder, GraphNetwork(graph.to(torch.float64)), Clock(30.0)
            )
            assert found.verdict is (Verdict.VERIFIED if slack > 0 else Verdict.FALSIFIED)
            assert found.stats["arithmetic"] == "real"


def test_batch_and_pool_size_change_no_verdict() -> None:
    graph = drawn(7, (5, 3))
    truth = least(graph, case(ROWS[0], [0.0]))
    for batch, waiting in ((1, 1), (3, 2), (1000, 1 << 17)):
        for slack in (0.005, -0.005):
            own = case(ROWS[0], [slack - truth])
            options = SearchOptions(inputs=InputOptions(batch=batch, waiting=waiting))
            found = search(graph, own, Clock(30.0), options)
            assert found.verdict is (Verdict.VERIFIED if slack > 0 else Verdict.FALSIFIED)


def test_whoever_confirms_is_asked() -> None:
    options = SearchOptions(inputs=InputOptions(confirm=lambda x: False))
    found = search(drawn(1, (3,)), case([[0.0, 0.0]], [-1.0]), Clock(0.5), options)
    assert found.verdict is Verdict.UNKNOWN


def test_progress_is_told() -> None:
    told: list[float] = []
    options = SearchOptions(inputs=InputOptions(progress=lambda p: told.append(p.domains)))
    search(drawn(1, (3, 3)), case([[1.0, 0.0]], [2.0]), Clock(5.0), options)
    assert told == sorted(told)
    assert told


def test_a_pool_turns_depth_first() -> None:
    def boxes(*bounds: float) -> Boxes:
        n = len(bounds)
        side, none = torch.zeros(n, 1, dtype=torch.float64), torch.zeros(n, dtype=torch.long)
        return Boxes(
            side, side, none, torch.zeros(n, 1, dtype=torch.bool), double(*bounds), double(*bounds),
            none,
        )  # fmt: skip

    pool = Pool(boxes(3.0, 1.0, 2.0, 4.0), limit=5)
    assert pool.lowest() == 1.0
    assert sorted(pool.pop(2).bound.tolist()) == [1.0, 2.0]
    pool.push(boxes(0.0, 5.0, 7.0, 6.0))
    assert pool.pop(2).bound.tolist() == [7.0, 6.0]
    assert len(pool) == 4


def test_points_are_moved_into_the_box() -> None:
    third = double(1 / 3, 1 / 3)
    found = inward(third, third, third + 1)
    assert bool((found >= third).all())
    assert torch.equal(found, found.float().double())
    assert torch.equal(inward(third, third, third), third)


def test_boxes_are_cut_by_what_a_counterexample_satisfies() -> None:
    """``x - 1/2 <= 0`` and ``1/4 - x <= 0`` leave [1/4, 1/2] of [0, 1]."""
    one = torch.zeros(1, 1, dtype=torch.bool)
    at = double(0)
    box = Boxes(at[None], at[None] + 1, torch.zeros(1).long(), one, at, at, at.long())
    slopes = double(1, -1).reshape(1, 1, 2, 1)
    low, high, empty = splitting._clipped(box, double(-0.5, 0.25).reshape(1, 1, 2), slopes, one)
    assert not bool(empty.any())
    assert math.isclose(low.item(), 0.25, abs_tol=1e-12)
    assert low.item() <= 0.25
    assert high.item() >= 0.5
    assert math.isclose(high.item(), 0.5, abs_tol=1e-12)
    gone = splitting._clipped(box, double(-0.25, 0.5).reshape(1, 1, 2), slopes, one)[2]
    assert bool(gone.all())


def clipped(seed: int) -> tuple[bool, bool]:
    """Whether a point on which all rows are at most zero is cut off, and whether anything is.

    Slopes of any size, boxes from almost a point on, rows that are just not above zero there.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    powers = torch.rand(2, generator=draw, dtype=torch.float64)
    point, slopes = normal(4), normal(3, 4) * 10 ** (10 * powers[0])
    width = 10 ** (-17 * powers[1]) * torch.rand(2, 4, generator=draw, dtype=torch.float64)
    exact = [
        sum(Fraction(s) * Fraction(x) for s, x in zip(row, point.tolist(), strict=True))
        for row in slopes.tolist()
    ]
    constant = down(-double(*(float(value) for value in exact)))
    pairs = zip(exact, constant.tolist(), strict=True)
    assert all(value + Fraction(shift) <= 0 for value, shift in pairs)
    none, zero = torch.zeros(1, 1, dtype=torch.bool), double(0)
    lower, upper = point - width[0], point + width[1]
    box = Boxes(lower[None], upper[None], zero.long(), none, zero, zero, zero.long())
    low, high, empty = splitting._clipped(
        box, constant.reshape(1, 1, 3), slopes.reshape(1, 1, 3, 4), none
    )
    held = bool(((low[0] <= point) & (point <= high[0])).all()) and not bool(empty.any())
    return not held, bool(((low[0] > lower) | (high[0] < upper)).any())


def test_no_rounding_cuts_a_counterexample_off() -> None:
    lost, cut = zip(*(clipped(seed) for seed in range(500)), strict=True)
    assert not any(lost)
    assert sum(cut) > 250


def test_cuts_that_are_rounded_the_wrong_way_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test."""
    monkeypatch.setattr(splitting, "up", lambda x: x * (1 - 2.0**-24))
    assert any(clipped(seed)[0] for seed in range(500))


def test_no_case_is_refused() -> None:
    with pytest.raises(DataError):
        side_by_side([])


def test_random_points_find_what_corners_and_centres_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the search takes long; where they lie follows from the seed alone."""
    graph = drawn(1, (3, 3))
    rows = [[1.0, 0.0]]
    own = case(rows, [0.05 - least(graph, case(rows, [0.0]))])
    own = replace(own, offset=own.offset - 0.3)

    def misses(self: object, boxes: Boxes, slopes: Tensor) -> tuple[None, Tensor]:
        return None, torch.zeros(len(boxes), dtype=torch.float64)

    monkeypatch.setattr(splitting._Search, "_tried", misses)
    monkeypatch.setattr(splitting, "PATIENCE", 0.0)
    first, again = (search(graph, own, Clock(20.0)) for _ in range(2))
    assert first.verdict is Verdict.FALSIFIED
    assert first.witness is not None
    assert again.witness is not None
    assert torch.equal(first.witness, again.witness)
    monkeypatch.setattr(splitting, "PATIENCE", math.inf)
    assert search(graph, own, Clock(0.5)).verdict is Verdict.UNKNOWN
