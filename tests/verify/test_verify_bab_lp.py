"""Branch and bound with a program at every node: against all patterns, and what is no verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bab_nets import drawn, least
from verify_nets import case, double, reaches, tent

from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case
from phalanx.verdicts import Verdict
from phalanx.verify.engine import Task, engines
from phalanx.verify.engines import branch_and_bound_lp as engine
from phalanx.verify.outcome import EXHAUSTED, TIMEOUT, Clock, Outcome

pytest.importorskip("highspy")


def asked(task: Task) -> Outcome:
    return engines.get("branch-and-bound-lp")(task)


@pytest.mark.parametrize("seed", range(8))
def test_it_agrees_with_all_patterns(seed: int) -> None:
    graph = drawn(seed, (3, 2, 2)[: 1 + seed % 3], skip=bool(seed % 2))
    rows = torch.tensor([[1.0, -1.0], [0.5, 0.25]][: 1 + seed % 2], dtype=torch.float64)
    zero = torch.zeros(len(rows), dtype=torch.float64)
    plain = Case(double(-1, -1), double(1, 1), rows, zero)
    truth = least(graph, plain)
    for slack, expected in ((0.02, Verdict.VERIFIED), (-0.02, Verdict.FALSIFIED)):
        found = asked(Task(graph, replace(plain, offset=zero + slack - truth), Clock(60.0)))
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
    monkeypatch.setattr(engine, "MOST_OPEN", 3)
    found = asked(Task(tent(), reaches(1.5).cases[0], Clock(60.0)))
    assert "too many" in found.reason


def test_no_time_is_a_timeout() -> None:
    found = asked(Task(tent(), reaches(1.5).cases[0], Clock(1e-9)))
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, TIMEOUT)
