"""Complete methods in a sweep: what is verified, falsified, left open, and refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phalanx.bounds.options import Options
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import ParameterError
from phalanx.evaluation.deciding import Decider, EngineFailed, prover_of
from phalanx.evaluation.proving import Prover
from phalanx.models.declaration import Declaration, wrap
from phalanx.models.model import Model
from phalanx.specs.threat import Threat
from phalanx.verdicts import Verdict
from phalanx.verify import portfolio
from phalanx.verify.outcome import TIMEOUT, Outcome

pytest.importorskip("highspy")
SAID = Declaration((0.0, 1.0), classes=2, normalised_inside=True, shape=(2,))


def distance() -> Model:
    """Class 1 where ``|x - 1/2| + |y - 1/2| > 1/4``."""
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).eval().requires_grad_(False)
    signs = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    net[0].weight.copy_(signs)
    net[0].bias.copy_(-signs.sum(1) / 2)
    net[2].weight.copy_(torch.tensor([[0.0] * 4, [1.0] * 4]))
    net[2].bias.copy_(torch.tensor([0.25, 0.0]))
    return wrap(net, SAID)


@pytest.mark.parametrize("method", ["branch-and-bound", "branch-and-bound-lp", "milp"])
def test_the_threshold_is_found_by_every_engine(method: str) -> None:
    """From the middle, balls up to 1/8 hold class 0: at their corners the sum is 1/4."""
    x, prover = torch.tensor([[0.5, 0.5]]), prover_of(
        distance(), (2,), method=method, arithmetic=None, options=Options(seconds=30.0)
    )  # fmt: skip
    assert isinstance(prover, Decider)
    inside = prover.prove(x, 0, Threat("linf", 0.12, 0.0, 1.0))
    assert (inside.holds, inside.broken, inside.method) == (True, False, method)
    outside = prover.prove(x, 0, Threat("linf", 0.13, 0.0, 1.0))
    assert (outside.holds, outside.broken, outside.against) == (False, True, 1)
    assert prover.arithmetic == "real"


def test_a_bounding_method_is_no_engine() -> None:
    prover = prover_of(distance(), (2,), method="crown", arithmetic=None, options=Options())
    assert type(prover) is Prover


def test_an_ensemble_is_one_network() -> None:
    prover = Decider(Ensemble([distance(), distance()], "mean"), (2,), method="branch-and-bound")
    x = torch.tensor([[0.5, 0.5]])
    assert prover.prove(x, 0, Threat("linf", 0.12, 0.0, 1.0)).holds


def test_what_time_does_not_decide_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        portfolio.engines, "get", lambda name: lambda task: Outcome(Verdict.UNKNOWN, "gave up")
    )
    prover = Decider(distance(), (2,), method="milp")
    found = prover.prove(torch.tensor([[0.5, 0.5]]), 0, Threat("linf", 0.1, 0.0, 1.0))
    assert (found.holds, found.broken, found.why) == (False, False, "milp: gave up")
    short = Decider(distance(), (2,), method="branch-and-bound", options=Options(seconds=1e-6))
    found = short.prove(torch.tensor([[0.5, 0.5]]), 0, Threat("linf", 0.1, 0.0, 1.0))
    assert found.why == f"branch-and-bound: {TIMEOUT}"


def test_a_failure_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(task: object) -> Outcome:
        raise RuntimeError("no answer")

    monkeypatch.setattr(portfolio.engines, "get", lambda name: broken)
    prover = Decider(distance(), (2,), method="milp")
    with pytest.raises(EngineFailed, match="no answer"):
        prover.prove(torch.tensor([[0.5, 0.5]]), 0, Threat("linf", 0.1, 0.0, 1.0))


def test_other_balls_and_other_arithmetic_are_refused() -> None:
    with pytest.raises(ParameterError, match="--arithmetic outward with milp"):
        Decider(distance(), (2,), method="milp", arithmetic="outward")
    prover = Decider(distance(), (2,), method="milp")
    with pytest.raises(ParameterError, match="--norm l2 with milp"):
        prover.prove(torch.tensor([[0.5, 0.5]]), 0, Threat("l2", 0.1, 0.0, 1.0))
