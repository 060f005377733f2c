"""Cutting what curves read: bounds of sub-problems against points, verdicts against a grid."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from bab_nets import drawn
from torch import Tensor
from verify_nets import case, double

from phalanx.bounds.outward.rounding import up
from phalanx.bounds.prepare import prepare
from phalanx.graph.ir import Graph, Node
from phalanx.graph.run import execute, run
from phalanx.specs.property import Case
from phalanx.verdicts import Verdict
from phalanx.verify.bab import pieces
from phalanx.verify.bab import search as module
from phalanx.verify.bab.contradictions import Contradictions
from phalanx.verify.bab.curves import CurveOptions, split_curves
from phalanx.verify.bab.pieces import Parts, Pieces, halves
from phalanx.verify.bab.search import SearchOptions, search
from phalanx.verify.outcome import EXHAUSTED, TIMEOUT, Clock, Outcome

OPS = ("sigmoid", "tanh", "gelu", "sin", "leaky-relu", "relu")
CURVES_ALONE = SearchOptions(few=0, very_few=0)
SEEDS = 150
"""Networks whose pieces are looked at in rational numbers."""


def bent(seed: int, op: str, widths: tuple[int, ...] = (3, 2)) -> Graph:
    """Two inputs, gentle weights, one kind of curve."""

    def node(one: Node) -> Node:
        if one.op == "relu":
            return replace(one, op=op, attributes={"slope": 0.1} if op == "leaky-relu" else {})
        return replace(one, tensors={k: t * 0.4 for k, t in one.tensors.items()})

    return Graph(tuple(map(node, drawn(seed, widths, skip=seed % 2 == 0))), "y")


def nearly_least(graph: Graph, own: Case) -> float:
    """On a grid, then around its best points."""
    side = torch.linspace(-1, 1, 161, dtype=torch.float64)
    points, step = torch.cartesian_prod(side, side), 0.0125
    wide = graph.to(torch.float64)
    for _ in range(3):
        values = own.values(points, run(wide, points)).amax(1)
        best = points[values.topk(10, largest=False).indices]
        around = torch.cartesian_prod(*[torch.linspace(-1, 1, 11, dtype=torch.float64)] * 2) * step
        points, step = (best[:, None] + around).reshape(-1, 2).clamp(-1, 1), step / 5
    return float(values.min())


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("rows", [[[1.0, -1.0]], [[1.0, 0.0], [0.5, -1.0]]])
@pytest.mark.parametrize("seed", [1, *(pytest.param(s, marks=pytest.mark.slow) for s in (0, 2))])
def test_verdicts_agree_with_a_grid(seed: int, op: str, rows: list[list[float]]) -> None:
    graph, own = bent(seed, op), case(rows, [0.0] * len(rows))
    least = nearly_least(graph, own)
    for slack in (0.05, -0.05):
        asked = replace(own, offset=own.offset + slack - least)
        found = search(graph, asked, Clock(20.0), CURVES_ALONE)
        if slack > 0:
            # Rows are refuted one by one here, which may not do for two together.
            known = (Verdict.VERIFIED, Verdict.UNKNOWN)[: len(rows)]
            assert found.verdict in known
        else:
            assert found.verdict is Verdict.FALSIFIED
            assert found.witness is not None
            y = run(graph, found.witness[None].float())
            assert bool(asked.holds(found.witness[None], y).all())


def between(root: Parts, lower: Tensor, upper: Tensor) -> Parts:
    """Sub-problems whose sides were cut just there."""
    bound = root.bound.expand(len(lower))
    return Parts(lower, upper, bound, torch.stack([lower, upper], 1))


def sampled(op: str, seed: int) -> None:
    """Random sub-problems: no point that has its values inside is below the bound."""
    graph = prepare(bent(seed, op).to(torch.float64))
    own = case([[1.0, -1.0], [-0.5, 1.0]], [0.0, 0.0])
    whole = Pieces(graph, own, None)
    draw = torch.Generator().manual_seed(seed)
    root = whole.root()
    cuts = torch.rand(2, 24, len(whole), dtype=torch.float64, generator=draw).sort(0).values
    keep = torch.rand(24, len(whole), generator=draw) < 0.5
    low, width = root.lower, root.upper - root.lower
    lower = torch.where(keep, low, low + width * (cuts[0] - 0.2).clamp_min(0))
    upper = torch.where(keep, root.upper, low + width * (cuts[1] + 0.2).clamp_max(1))
    parts = between(root, lower, upper)
    with torch.no_grad():
        found = whole.bounded(parts, 8, 0.1)
    x = torch.rand(4000, 2, dtype=torch.float64, generator=draw) * 2 - 1
    values = execute(graph, x, lambda node: node, keep=True)
    read = whole.gathered(values)[:, None]
    inside = ((read >= lower) & (read <= upper)).all(2)  # (points, D)
    y = own.values(x, values[graph.output])  # (points, J)
    least = y[:, found.row]
    assert bool(inside.any())
    assert bool((least >= found.least - 1e-9)[inside].all())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("op", OPS)
def test_bounds_of_sub_problems_hold_for_all_points_inside(op: str, seed: int) -> None:
    sampled(op, seed)


def test_multipliers_of_the_wrong_sign_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test."""
    honest = pieces._Asked.least

    def wrong(self: pieces._Asked) -> Tensor:
        with torch.no_grad():
            self.shares.fill_(-1.0)
        return honest(self)

    monkeypatch.setattr(pieces._Asked, "least", wrong)
    with pytest.raises(AssertionError):
        sampled("tanh", 0)


@pytest.mark.parametrize(
    ("beyond", "asked", "empty"), [(0.0, 0.0, False), (1e-3, 0.0, True), (1.0, 1e-9, True)]
)
def test_sides_that_cross_by_roundings_of_large_numbers_are_not_empty(
    beyond: float, asked: float, empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one unit in the last place, and by what no rounding explains."""
    monkeypatch.setattr(pieces, "CROSSED", asked)
    net = bent(1, "leaky-relu", (2,))
    nodes = [replace(one, tensors={k: t * 1e8 for k, t in one.tensors.items()}) for one in net]
    whole = Pieces(
        prepare(Graph(tuple(nodes), net.output).to(torch.float64)), case([[1.0, -1.0]], [0.0]), None
    )
    root = whole.root()
    assert float(root.upper.max()) > 1e7
    side = up(root.upper) + beyond
    found = whole.bounded(between(root, side, side), 0, 0.1)
    assert bool(torch.isposinf(found.least).all()) is empty


def hinged(seed: int) -> tuple[Graph, Case, dict[str, list[Fraction]]]:
    """Large weights, a box that is all but a point; what curves read in its middle, exactly."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    powers = torch.rand(2, generator=draw, dtype=torch.float64)
    scale, eps = 10 ** (2 + 5 * powers[0]), 10 ** (-8 - 12 * powers[1])
    x, first, second = normal(4), normal(6, 4) * scale, normal(6, 6) * scale
    shift = normal(6) * scale
    last = -second @ (first @ x + shift).clamp_min(0)
    tensors = (
        {"weight": first, "bias": shift},
        {"weight": second, "bias": last},
        {"weight": normal(1, 6)},
    )
    nodes = (
        Node("x", "input", (), (4,)),
        Node("a", "linear", ("x",), (6,), {}, tensors[0]),
        Node("r", "relu", ("a",), (6,)),
        Node("b", "linear", ("r",), (6,), {}, tensors[1]),
        Node("q", "tanh", ("b",), (6,)),
        Node("y", "linear", ("q",), (1,), {}, tensors[2]),
    )
    own = Case(x - eps, x + eps, torch.ones(1, 1).double(), double(0.0))
    read = {"a": exactly(tensors[0], [Fraction(v) for v in x.tolist()])}
    read["b"] = exactly(tensors[1], [max(v, Fraction(0)) for v in read["a"]])
    return Graph(nodes, "y"), own, read


def exactly(tensors: dict[str, Tensor], values: list[Fraction]) -> list[Fraction]:
    """A linear layer in rational numbers."""
    pairs = zip(tensors["weight"].tolist(), tensors["bias"].tolist(), strict=True)
    return [
        sum((Fraction(w) * v for w, v in zip(row, values, strict=True)), Fraction(b))
        for row, b in pairs
    ]


@pytest.mark.parametrize("asked", [pieces.CROSSED, 0.0])
def test_halves_that_hold_a_run_are_not_empty(
    asked: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "CROSSED", asked)
    halved = 0
    for seed in range(SEEDS):
        graph, own, read = hinged(seed)
        with torch.no_grad():
            whole = Pieces(prepare(graph, exact=True).to(torch.float64), own)
            if not len(whole):
                continue
            root, at = whole.root(), torch.arange(len(whole))
            places = (root.lower + root.upper)[0] / 2
            every = between(root, *(s.expand(len(whole), -1) for s in (root.lower, root.upper)))
            every.cuts[:, 0], every.cuts[:, 1] = -torch.inf, torch.inf
            least = whole.bounded(halves(every, at, places), 0, 0.1).least
        values = [read[n][e] for n, entries in whole.entries.items() for e in entries.tolist()]
        cut = [Fraction(place) for place in places.tolist()]
        below = [value <= place for value, place in zip(values, cut, strict=True)]
        above = [value >= place for value, place in zip(values, cut, strict=True)]
        assert not bool((torch.isposinf(least) & torch.tensor(below + above)).any())
        halved += len(values)
    assert halved > 100


def test_without_roundings_counted_nothing_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "uncovered", lambda graph: graph.nodes[-1])
    whole = Pieces(prepare(bent(1, "tanh").to(torch.float64)), case([[1.0, -1.0]], [0.0]), None)
    root = whole.root()
    with torch.no_grad():
        above = between(root, root.upper + 1.0, root.upper + 2.0)
        assert float(whole.bounded(above, 2, 0.1).least) < torch.inf


def test_contradictions_are_found_behind_operators_of_several_variables() -> None:
    """The larger of ``x^2`` and ``tanh x`` on [-1, 1] is between -1 and 1, side by side."""
    window = {"kernel": (2,), "stride": (2,)}
    nodes = (
        Node("x", "input", (), (1, 2)),
        Node("m", "mul", ("x", "x"), (1, 2)),
        Node("t", "tanh", ("x",), (1, 2)),
        Node("c", "concat", ("m", "t"), (2, 2), {"axis": 0}),
        Node(
            "p",
            "max-pool",
            ("c",),
            (2, 1),
            {**window, "padding": (0,), "dilation": (1,), "ceil_mode": False},
        ),
        Node("y", "tanh", ("p",), (2, 1)),
    )
    graph = prepare(Graph(nodes, "y").to(torch.float64))
    found = Contradictions(graph, case([[1.0, -1.0]], [0.0]), Clock())
    low = double(0.5, 1.5, -2.0).reshape(3, 1, 1).expand(3, 2, 1)
    assert found.shown({"p": (low, low + 0.25)}).tolist() == [False, True, True]


def test_multipliers_make_bounds_better() -> None:
    graph = prepare(bent(1, "tanh").to(torch.float64))
    whole = Pieces(graph, case([[1.0, -1.0]], [0.0]), None)
    root = whole.root()
    half = between(root, root.lower, (root.lower + root.upper) / 2)
    with torch.no_grad():
        first = whole.bounded(half, 0, 0.1)
        later = whole.bounded(half, 30, 0.1)
    assert bool(later.least > first.least + 1e-3)


def test_intervals_that_contradict_each_other_hold_nothing() -> None:
    graph = prepare(bent(1, "tanh").to(torch.float64))
    whole = Pieces(graph, case([[1.0, -1.0]], [0.0]), None)
    root = whole.root()
    above = between(root, root.upper + 1.0, root.upper + 2.0)
    with torch.no_grad():
        assert float(whole.bounded(above, 2, 0.1).least) == torch.inf


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_bounds_that_overflowed_close_nothing(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = pieces._Asked.least
    monkeypatch.setattr(pieces._Asked, "least", lambda self: honest(self) * 0 + value)
    whole = Pieces(prepare(bent(1, "tanh").to(torch.float64)), case([[1.0, -1.0]], [0.0]))
    with torch.no_grad():
        assert float(whole.bounded(whole.root(), 2, 0.1).least) == -torch.inf


def test_networks_with_nothing_to_cut_are_unknown_not_errors() -> None:
    """A product of the inputs has no curve; an output that reads none of them has no slope."""
    zero = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}
    product = Node("m", "mul", ("x", "x"), (2,))
    bend = Node("t", "tanh", ("x",), (2,))
    nothing = Node("y", "linear", ("t",), (2,), {}, zero)
    own = case([[1.0, -1.0]], [-50.0])
    for nodes in ((product,), (bend, nothing)):
        graph = Graph((Node("x", "input", (), (2,)), *nodes), nodes[-1].name)
        ready = prepare(graph.to(torch.float64))
        denied = CurveOptions(confirm=lambda x: False)
        found = split_curves(ready, own, lambda x, g=graph: run(g, x.float()), Clock(2.0), denied)
        assert found.verdict is Verdict.UNKNOWN


def test_no_time_a_denied_witness_and_nothing_to_cut_are_unknown() -> None:
    graph = bent(0, "tanh")
    ready, own = prepare(graph.to(torch.float64)), case([[1.0, -1.0]], [-50.0])

    def answers(x: Tensor) -> Tensor:
        return run(graph, x.float())

    found = split_curves(ready, own, answers, Clock(1e-9))
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, TIMEOUT)
    denied = CurveOptions(confirm=lambda x: False)
    found = split_curves(ready, own, answers, Clock(0.3), denied)
    assert found.verdict is Verdict.UNKNOWN
    point = Case(double(0.5, 0.5), double(0.5, 0.5), own.outputs, double(-50.0))
    found = split_curves(ready, point, answers, Clock(20.0), denied)
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, EXHAUSTED)


def test_the_clock_is_looked_at_in_every_pass() -> None:
    def layer(at: int, size: int, source: str) -> tuple[Node, Node]:
        weight = torch.randn(200, size, generator=torch.Generator().manual_seed(at)) / 5
        tensors = {"weight": weight, "bias": torch.zeros(200)}
        linear = Node(f"z{at}", "linear", (source,), (200,), {}, tensors)
        return linear, Node(f"h{at}", "sigmoid", (f"z{at}",), (200,))

    nodes = (Node("x", "input", (), (100,)), *layer(0, 100, "x"), *layer(1, 200, "h0"))
    graph = Graph((*nodes, *layer(2, 200, "h1")), "h2")
    rows = torch.zeros(1, 200, dtype=torch.float64)
    rows[0, :2] = torch.tensor([1.0, -1.0])
    side = torch.full((100,), 0.3, dtype=torch.float64)
    clock = Clock(1.0)
    found = search(graph, Case(-side, side, rows, double(0.5)), clock, CURVES_ALONE)
    assert found.verdict is Verdict.UNKNOWN
    assert found.reason == TIMEOUT
    assert clock.spent() < 2.0


@pytest.mark.parametrize(("op", "after"), [("sigmoid", "_on_curves"), ("relu", "_on_relus")])
def test_what_boxes_leave_open_is_decided_by_the_search_after_them(
    op: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, rows = bent(3, op), [[1.0, -1.0]]
    own = case(rows, [0.05 - nearly_least(graph, case(rows, [0.0]))])
    boxes_first = SearchOptions(few=2, very_few=0)
    left = Outcome(Verdict.UNKNOWN, EXHAUSTED, lower=-3.0)
    monkeypatch.setattr(module, "_on_inputs", lambda *_: left)
    assert search(graph, own, Clock(60.0), boxes_first).verdict is Verdict.VERIFIED
    nothing = Outcome(Verdict.UNKNOWN, TIMEOUT)
    monkeypatch.setattr(module, after, lambda *_, **__: nothing)
    assert search(graph, own, Clock(60.0), boxes_first) is left
    assert search(graph, own, Clock(60.0), CURVES_ALONE) is nothing
