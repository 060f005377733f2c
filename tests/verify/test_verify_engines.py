"""Every registered engine: small networks against all activation patterns."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from verify_nets import case, reaches, tent

from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case, Property
from phalanx.verdicts import Verdict
from phalanx.verify.engine import Task, engines
from phalanx.verify.network import network_of
from phalanx.verify.outcome import Clock, OutOfTime
from phalanx.verify.portfolio import Effort, Portfolio, decide

pytest.importorskip("highspy")
pytest.importorskip("z3")

ENGINES = engines.names()


def small(seed: int, units: int = 4) -> Graph:
    """Two inputs, ``units`` ReLUs in one layer, two outputs; weights are multiples of 1/8."""
    draw = np.random.default_rng(seed)

    def eighths(*shape: int) -> torch.Tensor:
        return torch.from_numpy(draw.integers(-16, 17, shape) / 8.0).float()

    first = {"weight": eighths(units, 2), "bias": eighths(units)}
    last = {"weight": eighths(2, units), "bias": eighths(2)}
    nodes = (
        Node("x", "input", (), (2,)),
        Node("first", "linear", ("x",), (units,), {}, first),
        Node("relu", "relu", ("first",), (units,)),
        Node("y", "linear", ("relu",), (2,), {}, last),
    )
    return Graph(nodes, "y")


def least(graph: Graph, own: Case) -> float:
    """The least over the box of the case's largest row, over all activation patterns, by LPs."""
    first, last = graph["first"].tensors, graph["y"].tensors
    w, b = first["weight"].double().numpy(), first["bias"].double().numpy()
    rows = own.outputs.numpy() @ last["weight"].double().numpy()
    offsets = own.outputs.numpy() @ last["bias"].double().numpy() + own.offset.numpy()
    bounds = list(zip(own.lower.tolist(), own.upper.tolist(), strict=True))
    best = np.inf
    for pattern in itertools.product([0.0, 1.0], repeat=len(b)):
        on = np.array(pattern)
        active, constant = rows * on @ w, rows * on @ b + offsets
        signs = 1 - 2 * on[:, None]  # on: w x + b >= 0
        above = np.hstack([active, -np.ones((len(rows), 1))])
        kept = np.hstack([signs * w, np.zeros((len(b), 1))])
        found = linprog(
            [0.0, 0.0, 1.0],
            np.vstack([above, kept]),
            np.concatenate([-constant, -signs[:, 0] * b]),
            bounds=[*bounds, (None, None)],
        )
        if found.status == 0:
            best = min(best, float(found.fun))
    return best


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("seed", range(8))
def test_engines_agree_with_all_patterns(name: str, seed: int) -> None:
    graph = small(seed)
    for rows in ([[1.0, -1.0]], [[1.0, 0.0], [0.5, -1.0]]):
        zero = case(rows, [0.0] * len(rows))
        truth = least(graph, zero)
        for slack, expected in ((0.05, Verdict.VERIFIED), (-0.05, Verdict.FALSIFIED)):
            own = case(rows, [slack - truth] * len(rows))
            found = engines.get(name)(Task(graph, own, Clock(30.0)))
            assert found.verdict is expected, (seed, slack)
            if found.lower is not None and expected is Verdict.VERIFIED:
                assert found.lower <= slack + 1e-6
            if found.witness is not None:
                y = network_of(graph).answers(found.witness[None].float())
                assert bool((own.values(found.witness[None], y) <= 1e-5).all())


@pytest.mark.parametrize("name", ENGINES)
def test_a_portfolio_with_an_engine_decides_what_bounds_do_not(name: str) -> None:
    none = Effort(0, 0)
    plan = Portfolio(none, ("interval",), none, engines=(name,))
    verified = decide(network_of(tent()), reaches(2.25), 30.0, plan=plan)
    assert (verified.verdict, dict(verified.by)) == (Verdict.VERIFIED, {name: 1})
    found = decide(network_of(tent()), Property((case([[-1, 0]], [1.5]),)), 30.0, plan=plan)
    assert found.verdict is Verdict.FALSIFIED


@pytest.mark.parametrize("name", ENGINES)
def test_rows_over_inputs(name: str) -> None:
    """``y_1 + x_0 = 2 x_0 >= -2``: below -2.1 nothing lies, below -1.9 something does."""
    for level, expected in ((2.1, Verdict.VERIFIED), (1.9, Verdict.FALSIFIED)):
        plain = case([[0.0, 1.0]], [level])
        row = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        own = Case(plain.lower, plain.upper, plain.outputs, plain.offset, row)
        assert engines.get(name)(Task(tent(), own, Clock(30.0))).verdict is expected


@pytest.mark.parametrize("name", ENGINES)
def test_no_time_is_no_verdict(name: str) -> None:
    with contextlib.suppress(OutOfTime):
        found = engines.get(name)(Task(small(0), case([[1, -1]], [5.0]), Clock(1e-6)))
        assert found.verdict is not Verdict.FALSIFIED


def test_branch_and_bound_tells_where_it_stands() -> None:
    told: list[dict[str, float]] = []
    graph, rows = small(1, 6), [[1.0, -1.0]]
    own = case(rows, [0.01 - least(graph, case(rows, [0.0]))])
    task = Task(graph, own, Clock(60.0), told=lambda numbers: told.append(dict(numbers)))
    assert engines.get("branch-and-bound")(task).verdict is Verdict.VERIFIED
    assert told
    assert all(set(numbers) == {"domains", "waiting", "bound"} for numbers in told)
    assert [numbers["domains"] for numbers in told] == sorted(n["domains"] for n in told)
    assert all(numbers["bound"] <= 0.01 for numbers in told[:-1])


def test_an_engine_alone_draws_what_it_draws_in_a_portfolio() -> None:
    alone = Task(tent(), reaches(1.5).cases[0], Clock())
    assert alone.seed == Portfolio().seed == 0
