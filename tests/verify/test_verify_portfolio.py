"""Verdicts of the portfolio: proven in every case, replayed, or neither; failures prove nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from verify_nets import case, double, reaches, tent

from phalanx.bounds.problem import methods
from phalanx.errors import GraphError, MissingDependencyError, ParameterError
from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case, Property
from phalanx.verdicts import Verdict
from phalanx.verify import portfolio
from phalanx.verify.engine import Engine, Task
from phalanx.verify.network import network_of
from phalanx.verify.outcome import EXHAUSTED, TIMEOUT, Outcome, OutOfTime
from phalanx.verify.portfolio import UNCONFIRMED, Effort, Portfolio, decide
from phalanx.verify.result import OUTWARD, REAL, Watch

BOUNDS = Portfolio(engines=())
NO_ATTACK = Effort(0, 0)


def test_bounds_prove_and_roundings_are_counted() -> None:
    found = decide(network_of(tent()), reaches(2.5), plan=BOUNDS)
    assert found.verdict is Verdict.VERIFIED
    assert (found.word, found.arithmetic, found.refuted) == ("unsat", OUTWARD, 1)
    plain = decide(network_of(tent()), reaches(2.5), plan=Portfolio(engines=(), recheck=False))
    assert plain.arithmetic == REAL


def test_an_attack_falsifies_first() -> None:
    found = decide(network_of(tent()), reaches(2.0), plan=BOUNDS)
    assert (found.word, found.refuted) == ("sat", 0)
    assert found.witness is not None
    assert found.witness.y.tolist()[0] == 2.0


def test_one_row_refutes_a_case_and_every_case_must_be_refuted() -> None:
    network = network_of(tent())
    far, near = [[-1.0, 0.0]], [[0.0, 1.0]]
    both = Property((case([*near, *far], [0.0, 3.0]), case(far, [2.5])))
    assert decide(network, both, plan=BOUNDS).verdict is Verdict.VERIFIED
    one = Property((case([*near, *far], [0.0, 3.0]), case(far, [0.5])))
    assert decide(network, one, plan=BOUNDS).verdict is Verdict.FALSIFIED


def test_rows_over_inputs_and_strict_rows_are_bounded() -> None:
    mixed = Case(
        double(-1.0, -1.0),
        double(1.0, 1.0),
        torch.tensor([[0.0, 1.0]], dtype=torch.float64),
        double(2.25),
        torch.tensor([[1.0, 0.0]], dtype=torch.float64),
    )
    found = decide(network_of(tent()), Property((mixed, case([[-1, 0]], [2.5]))), plan=BOUNDS)
    assert (found.verdict, found.arithmetic) == (Verdict.VERIFIED, OUTWARD)
    edge = case([[-1, 0]], [2.0])
    strict = Case(edge.lower, edge.upper, edge.outputs, edge.offset, None, torch.tensor([True]))
    assert decide(network_of(tent()), Property((edge,)), plan=BOUNDS).word == "sat"
    few = Portfolio(Effort(0, 4), pursuit=NO_ATTACK, engines=())
    assert decide(network_of(tent()), Property((strict,)), plan=few).word == "unknown"


def test_what_nothing_decides_is_unknown_with_a_bound() -> None:
    """``y_0 <= 2``: linear bounds see it, intervals do not."""
    below = Property((case([[-1, 0]], [2.5]),))
    plan = Portfolio(attack=NO_ATTACK, bounds=("interval",), pursuit=NO_ATTACK, engines=())
    found = decide(network_of(tent()), below, plan=plan)
    assert (found.word, found.reason, found.refuted) == ("unknown", EXHAUSTED, 0)
    assert found.lower is not None
    assert found.lower < 0


@pytest.mark.parametrize("failure", [RuntimeError("planted"), GraphError("planted"), MemoryError()])
def test_a_failure_is_an_error_unless_something_else_decides(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(problem: object) -> torch.Tensor:
        raise failure

    methods.register("failing")(fail)
    try:
        alone = decide(
            network_of(tent()), reaches(2.5), plan=Portfolio(bounds=("failing",), engines=())
        )
        helped = decide(
            network_of(tent()),
            reaches(2.5),
            plan=Portfolio(bounds=("failing", "crown"), engines=()),
        )
        found = decide(
            network_of(tent()), reaches(1.0), plan=Portfolio(bounds=("failing",), engines=())
        )
    finally:
        methods.unregister("failing")
    assert (alone.verdict, alone.word, alone.refuted) == (Verdict.ERROR, "error", 0)
    assert type(failure).__name__ in alone.reason
    assert helped.verdict is Verdict.VERIFIED
    assert found.verdict is Verdict.FALSIFIED


@pytest.mark.parametrize("value", [math.nan, -math.inf, -2.5, math.inf])
def test_bounds_that_are_no_bounds_prove_nothing(value: float) -> None:
    methods.register("useless")(
        lambda problem: problem.rows.new_full(problem.rows.shape[:2], value)
    )
    try:
        for recheck in (True, False):
            plan = Portfolio(bounds=("useless",), engines=(), recheck=recheck)
            found = decide(network_of(tent()), reaches(2.5), plan=plan)
            assert (found.verdict, found.refuted) == (Verdict.UNKNOWN, 0)
    finally:
        methods.unregister("useless")


def test_time_is_kept_and_a_timeout_is_no_verdict(planted: Callable[[Engine], Portfolio]) -> None:
    def slow(task: Task) -> Outcome:
        while not task.clock.expired():
            time.sleep(0.01)
        return Outcome(Verdict.UNKNOWN, TIMEOUT)

    cases = Property(tuple(case([[-1, 0]], [2.5]) for _ in range(3)))
    found = decide(network_of(tent()), cases, 0.6, plan=planted(slow))
    assert (found.word, found.reason) == ("timeout", TIMEOUT)
    assert 0.4 < found.seconds < 5.0


def test_bounds_stop_when_time_is_out() -> None:
    """Seven wide layers take longer than a few milliseconds."""
    torch.manual_seed(0)
    nodes, last = [Node("x", "input", (), (2,))], 2
    for index in range(7):
        weight = {"weight": torch.randn(400, last) / last**0.5}
        nodes.append(Node(f"l{index}", "linear", (nodes[-1].name,), (400,), {}, weight))
        nodes.append(Node(f"r{index}", "relu", (nodes[-1].name,), (400,)))
        last = 400
    final = {"weight": torch.randn(2, 400) / 20}
    nodes.append(Node("y", "linear", (nodes[-1].name,), (2,), {}, final))
    wide = Property((case([[1, 0]], [1e4]), case([[1, 0]], [0.3], side=3.0)))
    plan = Portfolio(attack=NO_ATTACK, bounds=("alpha-crown",), pursuit=NO_ATTACK, engines=())
    found = decide(network_of(Graph(tuple(nodes), "y")), wide, 0.2, plan=plan)
    assert found.word in ("timeout", "unknown")
    assert found.seconds < 20.0


def test_an_engine_decides_and_its_arithmetic_is_told(
    planted: Callable[[Engine], Portfolio],
) -> None:
    below = Property((case([[-1, 0]], [2.5]),))
    for stats, arithmetic in ({}, REAL), ({"arithmetic": OUTWARD}, OUTWARD):
        plan = planted(lambda task, s=stats: Outcome(Verdict.VERIFIED, "planted", stats=s))
        found = decide(network_of(tent()), below, plan=plan)
        assert (found.verdict, found.arithmetic) == (Verdict.VERIFIED, arithmetic)
        assert dict(found.by) == {"planted": 1}


def test_a_witness_that_is_none_is_not_reported(planted: Callable[[Engine], Portfolio]) -> None:
    point = double(0.25, 0.25)
    plan = planted(lambda task: Outcome(Verdict.FALSIFIED, "planted", witness=point))
    found = decide(network_of(tent()), Property((case([[-1, 0]], [2.5]),)), plan=plan)
    assert (found.word, found.reason) == ("unknown", UNCONFIRMED)
    right = decide(network_of(tent()), Property((case([[-1, 0]], [0.5]),)), plan=plan)
    assert right.word == "sat"


def test_an_engine_may_ask_whether_a_point_counts_and_tell_how_far_it_is(
    planted: Callable[[Engine], Portfolio],
) -> None:
    asked = []

    def asking(task: Task) -> Outcome:
        assert task.confirm is not None
        assert task.told is not None
        asked.extend(task.confirm(double(*point)) for point in ((0.1, 0.1), (1.0, 1.0)))
        task.told({"domains": 5})
        return Outcome(Verdict.UNKNOWN, "planted")

    watch = Watch()
    plan = planted(asking)
    own = Property((case([[-1, 0], [0, -1]], [1.5, 0.9]),))  # y_0 >= 1.5 and y_1 >= 0.9
    found = decide(network_of(tent()), own, plan=plan, watch=watch)
    assert (found.word, found.reason) == ("unknown", "planted")
    assert asked == [False, True]
    assert watch.numbers == {"domains": 5}


def test_a_case_that_time_ran_out_of_gets_what_the_others_left(
    planted: Callable[[Engine], Portfolio],
) -> None:
    asked: list[float] = []

    def slow_once(task: Task) -> Outcome:
        asked.append(float(task.case.offset[0]))
        if len(asked) == 1:
            return Outcome(Verdict.UNKNOWN, TIMEOUT)
        if len(asked) == 2:
            raise OutOfTime
        return Outcome(Verdict.VERIFIED, "planted")

    cases = Property(tuple(case([[-1, 0]], [offset]) for offset in (2.5, 2.6, 2.7)))
    found = decide(network_of(tent()), cases, 60, plan=planted(slow_once))
    assert (found.word, asked) == ("unsat", [2.5, 2.6, 2.7, 2.5, 2.6])


def test_a_package_that_is_missing_is_no_error(planted: Callable[[Engine], Portfolio]) -> None:
    def absent(task: Task) -> Outcome:
        raise MissingDependencyError("highspy is not installed")

    found = decide(network_of(tent()), Property((case([[-1, 0]], [2.5]),)), plan=planted(absent))
    assert (found.word, found.reason) == ("unknown", "highspy is not installed")


def test_an_engine_that_fails_on_one_case_spoils_the_property(
    planted: Callable[[Engine], Portfolio],
) -> None:
    def moody(task: Task) -> Outcome:
        if float(task.case.offset[0]) > 2.6:
            raise RuntimeError("planted")
        return Outcome(Verdict.VERIFIED, "planted")

    cases = Property((case([[-1, 0]], [2.5]), case([[-1, 0]], [2.75])))
    found = decide(network_of(tent()), cases, plan=planted(moody))
    assert (found.verdict, found.refuted) == (Verdict.ERROR, 1)


def test_a_watcher_sees_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    known = []

    def recheck(*_: object) -> Iterator[tuple[int, bool]]:
        known.append(watch.proven)
        yield 0, True

    monkeypatch.setattr(portfolio, "recheck_cases", recheck)
    decide(network_of(tent()), reaches(2.5), plan=BOUNDS, watch=watch)
    assert (known, watch.proven) == ([False], True)
    assert (watch.refuted, watch.cases) == (1, 1)


@pytest.mark.parametrize("claim", [1e-12, 5.0])
def test_a_bound_that_a_recheck_denies_proves_nothing(claim: float) -> None:
    """``y_0 <= 2`` is reached: no bound above it can stand."""
    methods.register("boastful")(
        lambda problem: problem.rows.new_full(problem.rows.shape[:2], claim - 2.0)
    )
    plan = Portfolio(NO_ATTACK, ("boastful",), NO_ATTACK, engines=())
    prop = Property((case([[-1, 0]], [2.0]),))
    try:
        denied = decide(network_of(tent()), prop, plan=plan)
    finally:
        methods.unregister("boastful")
    assert (denied.verdict, denied.refuted) == (Verdict.UNKNOWN, 0)


def test_a_plan_without_proof_is_refused() -> None:
    with pytest.raises(ParameterError, match="no method"):
        decide(network_of(tent()), reaches(1.0), plan=Portfolio(bounds=(), engines=()))
    with pytest.raises(ParameterError, match="no bounding method"):
        decide(network_of(tent()), reaches(1.0), plan=Portfolio(bounds=("magic",), engines=()))
    with pytest.raises(ParameterError, match="time limit"):
        decide(network_of(tent()), reaches(1.0), 0.0)


def test_bounded_networks_contain_what_random_points_show() -> None:
    """Random networks and levels: what is verified has no counterexample among 4,000 points."""
    generator = torch.Generator().manual_seed(5)
    verified = 0
    plan = Portfolio(Effort(1, 4), pursuit=Effort(1, 10), engines=())
    for _ in range(30):
        weight = torch.randn(6, 2, generator=generator)
        bias = torch.randn(6, generator=generator)
        last = torch.randn(2, 6, generator=generator)
        nodes = (
            Node("x", "input", (), (2,)),
            Node("first", "linear", ("x",), (6,), {}, {"weight": weight, "bias": bias}),
            Node("relu", "relu", ("first",), (6,)),
            Node("y", "linear", ("relu",), (2,), {}, {"weight": last}),
        )
        network = network_of(Graph(nodes, "y"))
        x = torch.rand(4000, 2, generator=generator) * 2 - 1
        least = float((network.answers(x) @ torch.tensor([1.0, -1.0])).min())
        for slack in (-0.3, 0.02, 0.6):
            prop = Property((case([[1, -1]], [-least + slack]),))
            found = decide(network, prop, plan=plan)
            verified += found.verdict is Verdict.VERIFIED
            assert not (found.verdict is Verdict.VERIFIED and slack < 0)
            if found.witness is not None:
                assert bool(prop.cases[0].holds(found.witness.x[None], found.witness.y[None]))
    assert verified > 15


def test_values_in_between_are_bounded_once(
    planted: Callable[[Engine], Portfolio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines take the boxes of the steps before them, of the same box of inputs."""
    monkeypatch.setattr(portfolio, "FEW_INPUTS", 0)
    given: list[Task] = []

    def watching(task: Task) -> Outcome:
        given.append(task)
        return Outcome(Verdict.UNKNOWN, "watching")

    plan = planted(watching)
    for bounds in (("crown",), ("crown", "alpha-crown-full")):
        decide(network_of(tent()), reaches(1.5), 30.0, plan=replace(plan, bounds=bounds))
    first, second = (task.inside for task in given)
    assert first is not None
    assert second is not None
    assert (dict(first.between), "relu" in first.boxes) == ({}, True)
    assert "y" in second.between


def test_bounds_in_full_hold_outward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portfolio, "FEW_INPUTS", 0)
    none = Effort(0, 0)
    two = Property((case([[-1, 0]], [4.5]), case([[-1, 1], [0, -1]], [9.0, -9.0])))
    plan = Portfolio(none, ("alpha-crown-full",), none, engines=())
    found = decide(network_of(tent()), two, 30.0, plan=plan)
    assert (found.verdict, found.arithmetic) == (Verdict.VERIFIED, "outward")
    assert dict(found.by) == {"alpha-crown-full": 2}
