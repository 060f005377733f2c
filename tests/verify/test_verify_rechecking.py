"""Rechecks in a portfolio: a case is refuted once its own agreed, whatever becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from verify_nets import case, double, reaches, tent

from phalanx.errors import GraphError, NonFiniteError
from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case, Property
from phalanx.verdicts import Verdict
from phalanx.verify import portfolio, rechecking
from phalanx.verify.bounding import Found, prepared
from phalanx.verify.engine import Engine, Task
from phalanx.verify.falsify import Effort
from phalanx.verify.network import network_of
from phalanx.verify.outcome import Clock, Outcome, OutOfTime
from phalanx.verify.plans import Portfolio
from phalanx.verify.portfolio import decide
from phalanx.verify.result import OUTWARD, REAL, Watch

NO_ATTACK = Effort(0, 0)
ONE_BOUND = Portfolio(NO_ATTACK, ("interval",), NO_ATTACK, engines=())


def absorbed() -> Graph:
    """``1/2 - relu(relu(x + 2^54) - 2^54)``: at 1 it is -1/2, and 1/2 in float64."""
    large, half = torch.full((1,), 2.0**54), torch.full((1,), 0.5)
    nodes = (
        Node("x", "input", (), (1,)),
        Node("up", "scale", ("x",), (1,), {}, {"bias": large}),
        Node("first", "relu", ("up",), (1,)),
        Node("down", "scale", ("first",), (1,), {}, {"bias": -large}),
        Node("second", "relu", ("down",), (1,)),
        Node("y", "scale", ("second",), (1,), {}, {"weight": -torch.ones(1), "bias": half}),
    )
    return Graph(nodes, "y")


def many(count: int) -> Property:
    """Unsafe where ``y <= 0``, on boxes below 1."""
    row, none = torch.ones(1, 1, dtype=torch.float64), double(0.0)
    ends = (0.9 + 0.1 * at / count for at in range(count))
    return Property(tuple(Case(double(low), double(low + 0.1 / count), row, none) for low in ends))


@pytest.mark.parametrize("method", ["interval", "crown"])
@pytest.mark.parametrize("count", [1, 300])
def test_what_a_recheck_denies_refutes_no_case(method: str, count: int) -> None:
    plan = replace(ONE_BOUND, bounds=(method,))
    network, prop = network_of(absorbed()), many(count)
    found = decide(network, prop, 60.0, plan=plan)
    assert (found.word, found.refuted, found.lower) == ("unknown", 0, None)
    real = decide(network, prop, 60.0, plan=replace(plan, recheck=False))
    assert (real.word, real.arithmetic, real.refuted) == ("unsat", REAL, count)


def test_a_recheck_that_time_runs_out_of_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was rechecked before stands; nothing else does, and the watcher hears of none."""
    prop = Property(tuple(case([[-1, 0]], [level]) for level in (4.5, 4.6, 4.7)))
    told: list[bool] = []
    watch = Watch(told.append)

    def slow(*given: Any) -> Iterator[tuple[int, bool]]:
        yield 1, True
        while not given[3].expired():
            time.sleep(0.01)
        raise OutOfTime

    monkeypatch.setattr(portfolio, "recheck_cases", slow)
    found = decide(network_of(tent()), prop, 0.5, plan=ONE_BOUND, watch=watch)
    assert (found.word, found.refuted, dict(found.by)) == ("timeout", 1, {"interval": 1})
    assert (told, watch.proven) == ([], False)
    assert found.seconds < 5


def test_what_a_recheck_leaves_is_of_its_own_box() -> None:
    """``|x_0| + |x_1| < 1`` on the smaller box alone; what is known of it is no help elsewhere."""
    sides = (0.25, 1.0, 0.25)
    prop = Property(tuple(case([[-1.0, 0.0]], [1.0], side=side) for side in sides))
    graph, sound, never = prepared(tent(), mixed=False), {}, Clock()
    for number, stands in ((0, True), (1, False), (2, True), (0, True)):
        refuted = [(number, Found(1.0, 0))]
        found = list(rechecking.recheck_cases(graph, prop, refuted, never, sound))
        assert found == [(number, stands)]
        assert found == list(rechecking.recheck_cases(graph, prop, refuted, never))
    assert len(sound) == 2


@pytest.mark.parametrize("count", [1, 3])
def test_a_real_recheck_looks_at_the_clock(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between boxes and in the middle of one."""
    never = Clock(1e-9)
    monkeypatch.setattr(
        portfolio, "recheck_cases", lambda *given: rechecking.recheck_cases(*given[:3], never)
    )
    prop = Property(tuple(case([[-1, 0]], [4.5 + at]) for at in range(count)))
    found = decide(network_of(tent()), prop, 60.0, plan=ONE_BOUND)
    assert (found.word, found.reason, found.refuted) == ("unknown", portfolio.UNCHECKED, 0)
    graph = prepared(tent(), mixed=False)
    passes = rechecking.ClockedPasses(Clock(), graph, rechecking.widened(graph, case([], [])))
    passes.clock = never
    with pytest.raises(OutOfTime):
        passes.least("y", torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("failure", [RuntimeError("two contradict"), GraphError("x"), TypeError()])
def test_a_recheck_that_fails_is_an_error_and_opens_its_cases_again(
    failure: Exception,
    monkeypatch: pytest.MonkeyPatch,
    planted: Callable[[Engine], Portfolio],
) -> None:
    def broken(*_: object) -> Iterator[tuple[int, bool]]:
        yield 0, True
        raise failure

    monkeypatch.setattr(portfolio, "recheck_cases", broken)
    prop = Property(tuple(case([[-1, 0]], [level]) for level in (4.5, 4.6, 4.7)))
    found = decide(network_of(tent()), prop, plan=ONE_BOUND)
    assert (found.verdict, found.refuted) == (Verdict.ERROR, 0)
    asked: list[float] = []

    def engine(task: Task) -> Outcome:
        asked.append(float(task.case.offset[0]))
        return Outcome(Verdict.VERIFIED, "planted")

    helped = decide(network_of(tent()), prop, plan=planted(engine))
    assert (helped.word, asked, dict(helped.by)) == ("unsat", [4.5, 4.6, 4.7], {"planted": 3})
    assert helped.failures == (f"{type(failure).__name__}: {failure}",)
    assert type(failure).__name__ in repr(helped)


def test_many_boxes_are_rechecked_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one only those that intervals do not refute."""
    asked: list[int] = []
    alone = rechecking.recheck

    def counted(*given: Any) -> torch.Tensor:
        asked.append(len(given[2]))
        return alone(*given)

    monkeypatch.setattr(rechecking, "recheck", counted)
    boxes = tuple(case([[-1, 0]], [4.5], side=1 + at / 100) for at in range(50))
    own = Property((*boxes, case([[-1, 0], [0, -1]], [2.5, 2.0], side=1.25)))
    plan = replace(ONE_BOUND, bounds=("interval", "crown", "alpha-crown"))
    found = decide(network_of(tent()), own, 60.0, plan=plan)
    assert (found.word, found.arithmetic, found.refuted) == ("unsat", OUTWARD, 51)
    assert len(asked) <= 1


def test_what_no_recheck_covers_stays_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rechecking, "uncovered", lambda graph: graph.input)
    found = decide(network_of(tent()), reaches(4.5), plan=ONE_BOUND)
    assert (found.word, found.arithmetic) == ("unsat", REAL)


def test_an_answer_that_is_no_number_is_no_proof_for_the_watcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nan(*_: object, **__: object) -> None:
        raise NonFiniteError("planted")

    monkeypatch.setattr(portfolio, "falsified", nan)
    watch = Watch()
    found = decide(network_of(tent()), reaches(4.5), plan=ONE_BOUND, watch=watch)
    assert (found.word, watch.proven) == ("error", False)


def test_a_recheck_that_runs_out_of_its_share_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a third of the cases: the rest of the time is for the others."""

    def slow(*given: Any) -> Iterator[tuple[int, bool]]:
        assert given[3].left() < 30
        raise OutOfTime
        yield

    monkeypatch.setattr(portfolio, "recheck_cases", slow)
    prop = Property(tuple(case([[-1, 0]], [level]) for level in (4.5, 3.6, 3.7)))
    found = decide(network_of(tent()), prop, 60.0, plan=ONE_BOUND)
    assert (found.word, found.reason) == ("unknown", portfolio.UNCHECKED)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_a_recheck_that_is_no_number_bears_nothing_out(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        rechecking, "recheck", lambda *given: torch.full((len(given[2]),), value).double()
    )
    found = decide(network_of(tent()), reaches(4.5), 60.0, plan=ONE_BOUND)
    assert (found.word, found.refuted) == ("unknown", 0)
