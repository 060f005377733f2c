"""The engine smt: exact numbers, its agreement with other methods, and what is no verdict."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from bab_nets import drawn, least
from verify_nets import case, double, reaches, tent

from phalanx.bounds.prepare import prepare
from phalanx.errors import GraphError, MissingDependencyError, NonFiniteError, SolverError
from phalanx.graph.build import Builder
from phalanx.graph.ir import Graph, Node
from phalanx.graph.run import run
from phalanx.specs.property import Case
from phalanx.specs.vnnlib import parse
from phalanx.verdicts import Verdict
from phalanx.verify.bounding import prepared
from phalanx.verify.engine import Task, engines
from phalanx.verify.engines import smt as engine
from phalanx.verify.network import network_of
from phalanx.verify.outcome import Clock, Outcome, OutOfTime
from phalanx.verify.plans import Effort, Portfolio, default_engines
from phalanx.verify.portfolio import decide
from phalanx.verify.smt import solve
from phalanx.verify.smt.ask import Answer, Request, Status, ask
from phalanx.verify.smt.encode import Budget, TooMany, encode, laid_out
from phalanx.verify.smt.forms import ONE, ZERO, Form, through

pytest.importorskip("z3")
pytest.importorskip("highspy")


def asked(graph: Graph, own: Case, seconds: float = 60.0, **more: Any) -> Outcome:
    return engines.get("smt")(Task(graph, own, Clock(seconds), **more))


# numbers


def eighths(draw: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(draw.integers(-16, 17, shape) / 8.0).float()


def affine_graphs() -> list[Graph]:
    """One node each; weights are multiples of 1/8, so that float64 is exact too."""
    draw = np.random.default_rng(0)
    image = Node("x", "input", (), (2, 4, 4))
    conv = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 1}
    weights = {"weight": eighths(draw, 3, 2, 2, 2), "bias": eighths(draw, 3)}
    back = {**conv, "dilation": (1, 1), "output_padding": (1, 0)}
    turned = {"weight": eighths(draw, 2, 3, 2, 2), "bias": eighths(draw, 3)}
    mean = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "count_padding": True}
    index = torch.tensor([3, 0, 0])
    nodes = [
        Node("y", "conv", ("x",), (3, 3, 2), conv, weights),
        Node("y", "conv-transpose", ("x",), (3, 7, 5), back, turned),
        Node("y", "avg-pool", ("x",), (2, 2, 2), mean),
        Node("y", "take", ("x",), (2, 3, 4), {"axis": 1}, {"indices": index}),
        Node("y", "reduce-sum", ("x",), (2, 1, 4), {"axes": (1,)}),
        Node("y", "transpose", ("x",), (4, 2, 4), {"permutation": (1, 0, 2)}),
        Node("y", "concat", ("x", "x"), (4, 4, 4), {"axis": 0}),
        Node("y", "pad", ("x",), (2, 5, 3), {"before": (0, 1, 0), "after": (0, 0, -1), "value": 2}),
        Node("y", "sub", ("x", "x"), (2, 4, 4)),
        Node("y", "scale", ("x",), (2, 4, 4), {}, {"weight": eighths(draw, 2, 1, 1)}),
        Node(
            "y", "quotient", ("x",), (2, 4, 4), {}, {"divisor": torch.tensor([[[4.0]], [[-8.0]]])}
        ),
    ]
    return [Graph((image, node), "y") for node in nodes]


@pytest.mark.parametrize("graph", affine_graphs(), ids=lambda graph: graph["y"].op)
def test_forms_are_what_the_operator_computes(graph: Graph) -> None:
    x = torch.from_numpy(np.random.default_rng(1).integers(-8, 9, (1, 2, 4, 4)) / 4.0)
    expected = run(graph.to(torch.float64), x).flatten().tolist()
    values = [Fraction(v) for v in x.flatten().tolist()]
    node = laid_out(graph)["y"]
    variables = [Form({at: ONE}, ZERO) for at in range(len(values))]
    found = list(through(node, [variables] * len(node.inputs)))
    sums = [f.constant + sum(s * values[v] for v, s in f.terms.items()) for f in found]
    assert [float(total) for total in sums] == expected


def test_weights_are_read_exactly_and_the_mean_of_nine_is_a_ninth() -> None:
    weight = torch.tensor([[0.1, -1e-7]])
    node = Node("y", "linear", ("x",), (1,), {}, {"weight": weight})
    ready = laid_out(Graph((Node("x", "input", (), (2,)), node), "y"))["y"]
    (form,) = through(ready, [[Form({0: ONE}, ZERO), Form({1: ONE}, ZERO)]])
    assert form.terms == {0: Fraction(float(weight[0, 0])), 1: Fraction(float(weight[0, 1]))}
    mean = {"kernel": (3, 3), "stride": (3, 3), "padding": (0, 0), "count_padding": True}
    pool = Node("y", "avg-pool", ("x",), (1, 1, 1), mean)
    ready = laid_out(Graph((Node("x", "input", (), (1, 3, 3)), pool), "y"))["y"]
    (form,) = through(ready, [[Form({at: ONE}, ZERO) for at in range(9)]])
    assert set(form.terms.values()) == {Fraction(1, 9)}
    third = Node("y", "quotient", ("x",), (1,), {}, {"divisor": torch.tensor(3.0)})
    ready = laid_out(Graph((Node("x", "input", (), (1,)), third), "y"))["y"]
    (form,) = through(ready, [[Form({0: ONE}, ZERO)]])
    assert form.terms == {0: Fraction(1, 3)}


def test_the_boundary_is_decided_exactly() -> None:
    """2 is reached and nothing above: at most 0 somewhere, below 0 nowhere."""
    touches = case([[-1.0, 0.0]], [2.0])
    assert asked(tent(), touches).verdict is Verdict.FALSIFIED
    strict = replace(touches, strict=torch.tensor([True]))
    found = asked(tent(), strict)
    assert (found.verdict, found.stats["arithmetic"]) == (Verdict.VERIFIED, "outward")
    nearly = case([[-1.0, 0.0]], [float(np.nextafter(2.0, 3.0))])
    assert asked(tent(), nearly).verdict is Verdict.VERIFIED


# agreement


def agrees(seed: int, *, enumerated: bool) -> None:
    """One random network, asked just below and just above its least value."""
    draw = np.random.default_rng(seed)
    depth = int(draw.integers(1, 4))
    widths = tuple(int(w) for w in draw.integers(1, 13 // depth, depth))
    graph = drawn(seed, widths, skip=bool(seed % 2))
    rows = eighths(draw, int(draw.integers(1, 3)), 2).double()
    plain = Case(double(-1, -1), double(1, 1), rows, torch.zeros(len(rows), dtype=torch.float64))
    truth = least(graph, plain) if enumerated and sum(widths) <= 7 else None
    slack = 0.02
    level = 0.5 * float(draw.normal()) if truth is None else -truth
    for shift in (slack, -slack) if truth is not None else (0.0,):
        own = replace(plain, offset=plain.offset + level + shift)
        found = asked(graph, own)
        if truth is not None:
            expected = Verdict.VERIFIED if shift > 0 else Verdict.FALSIFIED
            assert found.verdict is expected, (seed, shift)
        others = ("branch-and-bound", "milp") if truth is None or shift > 0 else ()
        for name in others:
            other = engines.get(name)(Task(graph, own, Clock(60.0)))
            assert {found.verdict, other.verdict} != {Verdict.VERIFIED, Verdict.FALSIFIED}, seed
            assert other.verdict is not Verdict.UNKNOWN, (seed, name)
        assert found.verdict is not Verdict.UNKNOWN
        if found.witness is not None:
            y = network_of(graph).answers(found.witness[None])
            assert bool((own.values(found.witness[None], y) <= 1e-5).all())


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_engines_agree_on_random_networks(first: int) -> None:
    for seed in range(first, first + 10):
        agrees(seed, enumerated=seed % 3 == 0)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 600, 50))
def test_engines_agree_on_many_random_networks(first: int) -> None:
    for seed in range(first, first + 50):
        agrees(seed, enumerated=True)


def bent(op: str, attributes: dict[str, Any]) -> Graph:
    """Two inputs, six numbers through an operator, two outputs."""
    draw = np.random.default_rng(3)
    builder = Builder((2,))
    first = {"weight": eighths(draw, 6, 2), "bias": eighths(draw, 6)}
    z = builder.add("linear", [builder.input], tensors=first)
    if op == "max-pool":
        z = builder.add("reshape", [z], shape=(1, 2, 3))
    h = builder.add(op, [z], **attributes)
    if op == "max-pool":
        h = builder.add("reshape", [h], shape=(2,))
    size = 2 if op == "max-pool" else 6
    last = {"weight": eighths(draw, 2, size), "bias": eighths(draw, 2)}
    return builder.graph(builder.add("linear", [h], tensors=last))


POOL = {
    "kernel": (2, 2), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "ceil_mode": False,
}  # fmt: skip
BENT = [
    ("leaky-relu", {"slope": 0.125}),
    ("leaky-relu", {"slope": 1.5}),
    ("abs", {}),
    ("clip", {"low": -0.5, "high": 0.75}),
    ("clip", {"low": -float("inf"), "high": 0.25}),
    ("max-pool", POOL),
]


@pytest.mark.parametrize(("op", "attributes"), BENT)
def test_other_operators_beside_a_grid_of_points(op: str, attributes: dict[str, Any]) -> None:
    """On the lines of a fine grid the least is found within the slope times half a step."""
    graph = bent(op, attributes)
    line = torch.linspace(-1, 1, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    y = run(graph.to(torch.float64), grid)
    rise = 36 * 4 * 4 * 1.5  # six numbers, two weights of at most 2 in both layers
    step = float(line[1] - line[0])
    for row in ([1.0, -1.0], [-0.5, 1.0]):
        seen = float((y @ double(*row)).min())
        assert asked(graph, case([row], [-seen])).verdict is Verdict.FALSIFIED
        below = case([row], [rise * step - seen])
        assert asked(graph, below).verdict is Verdict.VERIFIED


def test_a_fixed_input_is_no_variable() -> None:
    own = Case(double(0.5, -1), double(0.5, 1), double(-1, 0)[None], double(1.5))
    found = asked(tent(), own)  # 0.5 + |x_1| reaches 1.5
    assert found.verdict is Verdict.FALSIFIED
    assert found.witness is not None
    assert found.witness[0] == 0.5
    written = encode(tent(), own, Budget(Clock(60.0), 1000))
    assert written.inputs[0] == Form({}, Fraction(1, 2))


def test_folding_is_not_trusted_and_bounds_are_of_the_graph_as_written() -> None:
    """Behind a scale by a third, float32 weights are other ones; the engine does not fold."""
    third = Node("s", "scale", ("x",), (1,), {}, {"weight": torch.tensor(1 / 3)})
    weight = {"weight": torch.tensor([[3.0]])}
    graph = Graph(
        (Node("x", "input", (), (1,)), third, Node("y", "linear", ("s",), (1,), {}, weight)), "y"
    )
    exact = 3 * Fraction(float(torch.tensor(1 / 3)))
    assert exact > 1
    assert float(prepare(graph)[graph.output].tensors["weight"]) == 1.0
    # Unsafe where y >= 1 + 2e-8: reached by the network as written, not by the folded one.
    one = double(1.0)
    own = Case(-one, one, -one[None], one + 2e-8)
    written = encode(graph, own, Budget(Clock(60.0), 1000))
    assert ask(Request(written.text())).status is Status.FOUND


# no verdicts


def test_another_operator_is_refused_by_name() -> None:
    graph = Graph((Node("x", "input", (), (2,)), Node("bend", "sigmoid", ("x",), (2,))), "bend")
    with pytest.raises(GraphError, match=r"'bend' \(sigmoid\) is not piecewise linear"):
        asked(graph, case([[1.0, 0.0]], [1.0]))


def test_weights_that_are_no_numbers_are_refused() -> None:
    tensors = {"weight": torch.tensor([[1.0, float("nan")]] * 2)}
    nodes = (Node("x", "input", (), (2,)), Node("y", "linear", ("x",), (2,), {}, tensors))
    with pytest.raises(NonFiniteError, match="'y'"):
        asked(Graph(nodes, "y"), case([[1.0, 0.0]], [1.0]))


def test_z3_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "z3", None)
    with pytest.raises(MissingDependencyError, match=r"phalanx\[smt\]"):
        asked(tent(), case([[1.0, 0.0]], [1.0]))


def test_it_is_not_among_those_that_are_used_unasked() -> None:
    assert "smt" in engines.names()
    assert "smt" not in default_engines()


def test_what_z3_does_not_know_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve, "ask", lambda request: Answer(Status.NEITHER, {}, "incomplete"))
    found = asked(tent(), case([[1.0, 0.0]], [1.0]))
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "z3 gives up: incomplete")


def test_what_z3_fails_with_is_an_error() -> None:
    with pytest.raises(SolverError, match="unknown constant"):
        ask(Request("(assert (= v0 1))"))


def test_an_error_of_the_engine_is_an_error_of_the_portfolio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(request: Request) -> Answer:
        raise SolverError("z3 failed: out of memory")

    monkeypatch.setattr(solve, "ask", broken)
    plan = Portfolio(Effort(0, 0), ("interval",), Effort(0, 0), engines=("smt",))
    found = decide(network_of(tent()), reaches(2.25), 30.0, plan=plan)
    assert (found.verdict, found.word) == (Verdict.ERROR, "error")


def test_a_point_that_is_none_for_floats_is_no_counterexample() -> None:
    seen: list[torch.Tensor] = []

    def denied(x: torch.Tensor) -> bool:
        seen.append(x)
        return False

    found = asked(tent(), case([[-1.0, 0.0]], [1.5]), confirm=denied)
    assert found.verdict is Verdict.UNKNOWN
    assert "rational" in found.reason
    assert len(seen) == len(engine.MARGINS)  # each further inside
    depths = [float(x.abs().sum()) - 1.5 for x in seen]
    assert all(depth >= float(m) - 1e-12 for depth, m in zip(depths, engine.MARGINS, strict=True))


def test_too_many_coefficients_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooMany):
        encode(tent(), case([[1.0, 0.0]], [1.0]), Budget(Clock(60.0), 3))
    monkeypatch.setattr(engine, "MOST", 3)
    found = asked(tent(), case([[1.0, 0.0]], [1.0]))
    assert (found.verdict, found.reason) == (
        Verdict.UNKNOWN,
        "more than 3 coefficients are too many for smt",
    )


# processes


def wide(seed: int = 0) -> tuple[Graph, Case]:
    """A question that takes a solver longer than anybody waits."""
    draw = np.random.default_rng(seed)
    sizes = (60, 40, 40, 2)
    nodes, last = [Node("x", "input", (), (60,))], "x"
    for at, (size, width) in enumerate(itertools.pairwise(sizes)):
        weight = torch.from_numpy(draw.normal(0, size**-0.5, (width, size))).float()
        nodes.append(Node(f"z{at}", "linear", (last,), (width,), {}, {"weight": weight}))
        last = f"z{at}"
        if at < 2:
            nodes.append(Node(f"h{at}", "relu", (last,), (width,)))
            last = f"h{at}"
    side = torch.ones(60, dtype=torch.float64)
    row = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    return Graph(tuple(nodes), last), Case(-side, side, row, torch.tensor([3.0]).double())


def test_the_clock_is_kept() -> None:
    begun = time.monotonic()
    found = asked(*wide(), seconds=2.0)
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "timeout")
    assert time.monotonic() - begun < 3.0


def test_no_time_is_a_timeout() -> None:
    with pytest.raises(OutOfTime):
        solve.solved("", 0, Clock(1e-9))
    assert asked(tent(), case([[1.0, 0.0]], [1.0]), seconds=1e-9).reason == "timeout"


def test_a_process_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve, "HERE", 0)
    assert asked(tent(), reaches(2.25).cases[0]).verdict is Verdict.VERIFIED
    found = asked(tent(), reaches(1.75).cases[0])
    assert found.witness is not None
    assert float(found.witness.abs().sum()) >= 1.75


@pytest.mark.parametrize(("code", "said"), [(0, "no answer"), (-9, "ended with -9")])
def test_a_process_that_dies_is_an_error(
    monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    done = subprocess.CompletedProcess([], code, "", "")
    monkeypatch.setattr(solve, "HERE", 0)
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: done)
    with pytest.raises(SolverError, match=said):
        asked(tent(), reaches(2.25).cases[0])


def test_boxes_are_those_of_the_graph_before_it_is_prepared() -> None:
    """Both prepare to the same network here, so that the engines' answers are comparable."""
    graph = drawn(1, (3, 3))
    x = torch.tensor([[0.25, -0.5]], dtype=torch.float64)
    assert torch.equal(run(laid_out(graph), x), run(prepared(graph, mixed=False), x))


def test_a_question_that_is_too_hard_has_no_answer() -> None:
    """Whether 42 is a sum of three cubes (it is, of numbers with 17 digits)."""
    cubes = " ".join(f"(* {n} {n} {n})" for n in ("a", "b", "c"))
    declared = "".join(f"(declare-const {n} Int)" for n in ("a", "b", "c"))
    found = ask(Request(f"{declared} (assert (= (+ {cubes}) 42))", milliseconds=50))
    assert found.status is Status.NEITHER
    assert found.why
    assert not found.values


@pytest.mark.parametrize("engine_name", ["smt", "branch-and-bound"])
@pytest.mark.parametrize("low", ["0", "0.3"])
def test_decimals_of_a_file_are_its_own_numbers(engine_name: str, low: str) -> None:
    """The float64 of .3 lies below .3, and ten times it below 3."""
    text = f"""(declare-const X_0 Real)(declare-const Y_0 Real)
    (assert (>= X_0 {low}))(assert (<= X_0 0.3))(assert (>= (* 10.0 Y_0) 3.0))"""
    line = {"weight": torch.ones(1, 1), "bias": torch.zeros(1)}
    nodes = Node("x", "input", (), (1,)), Node("y", "linear", ("x",), (1,), {}, line)
    plan = Portfolio(Effort(0, 0), (), Effort(0, 0), engines=(engine_name,))
    found = decide(network_of(Graph(nodes, "y")), parse(text).property, 20.0, plan=plan)
    assert found.word != "unsat"
