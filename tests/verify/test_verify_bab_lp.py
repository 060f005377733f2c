"""Branch and bound with a program at every node: against all patterns, and what is no verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from bab_nets import drawn, least
from verify_nets import case, double, reaches, tent

from phalanx.bounds.programs import sum_cuts
from phalanx.bounds.programs.cuts import Cuts
from phalanx.bounds.programs.program import Draft
from phalanx.bounds.programs.solver import Solver, Status
from phalanx.errors import SolverError
from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case, Property
from phalanx.verdicts import Verdict
from phalanx.verify import portfolio
from phalanx.verify.bab import lp
from phalanx.verify.engine import Task, engines
from phalanx.verify.network import network_of
from phalanx.verify.outcome import EXHAUSTED, TIMEOUT, Clock, Outcome

pytest.importorskip("highspy")


NAMES = ("branch-and-bound-lp", "branch-and-bound-cuts")


def asked(task: Task, name: str = NAMES[0]) -> Outcome:
    return engines.get(name)(task)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(8))
def test_it_agrees_with_all_patterns(seed: int, name: str) -> None:
    graph = drawn(seed, (3, 2, 2)[: 1 + seed % 3], skip=bool(seed % 2))
    rows = torch.tensor([[1.0, -1.0], [0.5, 0.25]][: 1 + seed % 2], dtype=torch.float64)
    zero = torch.zeros(len(rows), dtype=torch.float64)
    plain = Case(double(-1, -1), double(1, 1), rows, zero)
    truth = least(graph, plain)
    for slack, expected in ((0.02, Verdict.VERIFIED), (-0.02, Verdict.FALSIFIED)):
        found = asked(Task(graph, replace(plain, offset=zero + slack - truth), Clock(60.0)), name)
        assert found.verdict is expected
        if expected is Verdict.VERIFIED:
            assert found.lower is not None
            assert 0 < found.lower <= slack + 1e-6


def test_signs_are_split_where_one_program_is_not_enough() -> None:
    """Far from the least value the relaxation is enough; near it only splitting is."""
    found = asked(Task(drawn(5, (4, 3)), case([[1.0, -1.0]], [60.0]), Clock(60.0)))
    assert found.stats["domains"] == 1
    graph = drawn(5, (4, 3))
    plain = case([[1.0, -1.0]], [0.0])
    near = replace(plain, offset=torch.tensor([1e-3 - least(graph, plain)], dtype=torch.float64))
    found = asked(Task(graph, near, Clock(60.0)))
    assert found.verdict is Verdict.VERIFIED
    assert found.stats["domains"] > 1


def test_a_denied_counterexample_is_no_answer() -> None:
    task = Task(tent(), reaches(1.5).cases[0], Clock(60.0), confirm=lambda x: False)
    found = asked(task)
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, EXHAUSTED)


def test_other_operators_and_large_networks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = (Node("x", "input", (), (2,)), Node("bend", "tanh", ("x",), (2,)))
    found = asked(Task(Graph(nodes, "bend"), case([[1.0, 0.0]], [2.0]), Clock(60.0)))
    assert (found.verdict, found.reason) == (
        Verdict.UNKNOWN,
        "only ReLUs are split, and 'bend' is tanh",
    )
    monkeypatch.setattr(lp, "MOST_OPEN", 3)
    found = asked(Task(tent(), reaches(1.5).cases[0], Clock(60.0)))
    assert "too many" in found.reason


def test_no_time_is_a_timeout() -> None:
    found = asked(Task(tent(), reaches(1.5).cases[0], Clock(1e-9)))
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, TIMEOUT)


def near(seed: int, widths: tuple[int, ...], slack: float = 0.05) -> Task:
    graph, plain = drawn(seed, widths), case([[1.0, -1.0]], [0.0])
    least_value = least(graph, plain)
    own = replace(plain, offset=torch.tensor([slack - least_value], dtype=torch.float64))
    return Task(graph, own, Clock(60.0))


def test_cuts_save_sub_problems() -> None:
    counts = []
    for name in NAMES:
        found = [asked(near(seed, (9,)), name) for seed in range(4)]
        assert all(one.verdict is Verdict.VERIFIED for one in found)
        counts.append(sum(one.stats["domains"] for one in found))
    assert counts[1] < counts[0]


@pytest.mark.parametrize("name", NAMES)
def test_that_a_program_is_empty_is_not_believed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without multipliers that show it a sub-problem stays open, and is unknown in the end."""
    monkeypatch.setattr(Solver, "_empty", lambda self: False)
    verdicts = [asked(near(seed, (4, 3)), name).verdict for seed in range(4)]
    assert set(verdicts) <= {Verdict.VERIFIED, Verdict.UNKNOWN}
    found = [asked(near(seed, (4, 3), -0.05), name).verdict for seed in range(4)]
    assert set(found) <= {Verdict.FALSIFIED, Verdict.UNKNOWN}


def test_an_empty_program_is_shown_by_multipliers() -> None:
    draft = Draft()
    x = draft.forms(draft.add_columns(np.zeros(2), np.ones(2)))
    both = x.take(np.array([0])).plus(x.take(np.array([1])))
    draft.between(both, 2.5, np.inf)
    found = Solver(draft.program()).least(np.array([1.0, 1.0]))
    assert (found.status, found.empty) == (Status.INFEASIBLE, True)
    solver = Solver(draft.program())
    solver.program = replace(solver.program, low=np.array([1.5]))  # another one than HiGHS has
    assert not solver.least(np.array([1.0, 1.0])).empty


def cut_lower(by: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def low(*args: Any, **named: Any) -> list[Cuts]:
        return [Cuts(c.forms, c.most - by, c.plane) for c in honest(*args, **named)]

    honest = sum_cuts._of_layer
    monkeypatch.setattr(sum_cuts, "_of_layer", low)


def test_a_cut_that_cuts_too_much_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: with cuts that are too low a false property is verified."""
    cut_lower(0.1, monkeypatch)
    verdicts = {asked(near(seed, (9,), -0.05), NAMES[1]).verdict for seed in range(8)}
    assert Verdict.VERIFIED in verdicts


def test_a_whole_box_without_a_run_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_lower(0.5, monkeypatch)
    with pytest.raises(SolverError, match="empty"):
        asked(near(3, (9,), -0.05), NAMES[1])


@pytest.mark.parametrize(("widths", "used"), [((9,), True), ((4, 3), False)])
def test_by_itself_only_flat_networks_are_asked(widths: tuple[int, ...], used: bool) -> None:
    task = near(1, widths)
    plan = portfolio.Portfolio(bounds=())
    found = portfolio.decide(network_of(task.graph), Property((task.case,)), 60.0, plan=plan)
    assert found.verdict is Verdict.VERIFIED
    assert (NAMES[1] in found.by) is used
