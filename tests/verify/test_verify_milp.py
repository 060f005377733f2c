"""Mixed-integer programs: what HiGHS says is no verdict until something else proves it."""

from __future__ import annotations

import math
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from verify_nets import reaches, tent

from phalanx.bounds.programs.exact import Minimum
from phalanx.bounds.programs.solver import Status, highspy, status_of
from phalanx.errors import SolverError
from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case
from phalanx.verdicts import Verdict
from phalanx.verify.engine import Task, engines
from phalanx.verify.engines import milp as engine
from phalanx.verify.network import network_of
from phalanx.verify.outcome import EXHAUSTED, TIMEOUT, Clock, Outcome, OutOfTime
from phalanx.verify.portfolio import Effort, Portfolio, decide

pytest.importorskip("highspy")

ALONE = Portfolio(Effort(0, 0), (), Effort(0, 0), engines=("milp",))
"""Nothing but the engine."""


def asked(level: float) -> Outcome:
    """The tent reaches 2; is that below the level?"""
    return engines.get("milp")(Task(tent(), reaches(level).cases[0], Clock(60.0)))


def says(monkeypatch: pytest.MonkeyPatch, status: Status, claimed: float) -> None:
    answer = Minimum(status, -math.inf, claimed, None, None)
    monkeypatch.setattr(engine, "least_exactly", lambda *_, **__: answer)


def test_what_it_verifies_is_proven_with_roundings_counted() -> None:
    found = asked(2.25)
    assert (found.verdict, found.reason) == (Verdict.VERIFIED, "milp")
    assert found.stats["arithmetic"] == "outward"
    assert found.stats["binary variables"] > 0


@pytest.mark.parametrize("level", [1.5, 2.25])
def test_that_a_program_is_empty_is_not_believed(
    level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, Status.INFEASIBLE, -math.inf)
    with pytest.raises(SolverError, match="empty"):
        asked(level)
    found = decide(network_of(tent()), reaches(level), 30.0, plan=ALONE)
    assert (found.verdict, found.refuted) == (Verdict.ERROR, 0)


@pytest.mark.parametrize("status", [Status.OPTIMAL, Status.TIMEOUT])
def test_a_bound_that_is_wrong_is_contradicted(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, status, 7.0)
    found = asked(1.5)
    assert found.verdict is Verdict.FALSIFIED
    assert found.witness is not None


@pytest.mark.parametrize("reason", [EXHAUSTED, TIMEOUT])
def test_a_bound_that_nothing_confirms_is_unknown(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, Status.OPTIMAL, 7.0)
    own = Outcome(Verdict.UNKNOWN, reason, lower=-1.0)
    monkeypatch.setattr(engine, "branch_and_bound", lambda task: own)
    found = asked(2.25)
    assert (found.verdict, found.lower) == (Verdict.UNKNOWN, -1.0)
    claimed = f"the solver claims a least value of 7, which nothing confirms: {EXHAUSTED}"
    assert found.reason == (TIMEOUT if reason == TIMEOUT else claimed)


def test_no_claim_is_shown_as_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, Status.OPTIMAL, -0.5)
    found = asked(1.5)
    assert (found.verdict, found.lower) == (Verdict.UNKNOWN, None)


def test_unbounded_or_infeasible_is_not_infeasible() -> None:
    kinds = highspy().HighsModelStatus
    for kind, expected in (
        (kinds.kInfeasible, Status.INFEASIBLE),
        (kinds.kUnboundedOrInfeasible, Status.FAILED),
    ):
        assert status_of(SimpleNamespace(getModelStatus=lambda kind=kind: kind)) is expected


def hinged(seed: int, depth: int) -> tuple[Graph, Case]:
    """Weights of 1 to 1000, all units at zero in the centre, which is unsafe in rational numbers.

    The box is 1e-12 to 1 wide, so a solver's tolerances may be far more than all of it.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    scale = 10 ** (3 * torch.rand(1, generator=draw, dtype=torch.float64))
    x = h = normal(3)
    exact = [Fraction(v) for v in x.tolist()]
    nodes, size = [Node("x", "input", (), (3,))], 3
    for index, width in enumerate([6] * depth + [1]):
        weight = normal(width, size) * scale
        bias = -weight @ h if index < depth else normal(1) * scale
        tensors, read = {"weight": weight, "bias": bias}, nodes[-1].name
        nodes.append(Node(f"z{index}", "linear", (read,), (width,), {}, tensors))
        pairs = zip(weight.tolist(), bias.tolist(), strict=True)
        exact = [
            sum((Fraction(w) * v for w, v in zip(row, exact, strict=True)), Fraction(b))
            for row, b in pairs
        ]
        h, size = weight @ h + bias, width
        if index < depth:
            nodes.append(Node(f"h{index}", "relu", (f"z{index}",), (width,)))
            exact, h = [max(v, Fraction(0)) for v in exact], h.clamp_min(0)
    offset = -float(exact[0]) - 1e-3 * abs(float(exact[0])) - 1e-9
    assert exact[0] + Fraction(offset) < 0
    eps = 10 ** (-12 * torch.rand(1, generator=draw, dtype=torch.float64))
    one = torch.ones(1, 1, dtype=torch.float64)
    own = Case(x - eps, x + eps, one, torch.tensor([offset], dtype=torch.float64))
    return Graph(tuple(nodes), nodes[-1].name), own


@pytest.mark.parametrize(
    "name", ["milp", "branch-and-bound-lp", "branch-and-bound-cuts", "branch-and-bound"]
)
@pytest.mark.parametrize("depth", [1, 2])
def test_boxes_that_are_smaller_than_tolerances_are_not_verified(name: str, depth: int) -> None:
    found = []
    for seed in range(40):
        graph, own = hinged(seed, depth)
        try:
            found.append(engines.get(name)(Task(graph, own, Clock(3.0))).verdict)
        except (SolverError, OutOfTime):
            continue
    assert Verdict.VERIFIED not in found
    assert len(found) > 30
    assert found.count(Verdict.FALSIFIED) > 30
