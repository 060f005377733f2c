"""Searches that go on from a cheaper method's radius."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phalanx.bounds.front import compute, margins
from phalanx.evaluation import proving
from phalanx.evaluation.bracket import Bracket, climbed
from phalanx.evaluation.proving import FINENESS, Prover
from phalanx.models.model import InputSpec, Model
from phalanx.specs.threat import Threat

MOST = Threat("linf", 1.0)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))
    with torch.no_grad():
        for layer in net[::2]:
            layer.weight *= 3
    return Model(net.eval(), InputSpec(shape=(6,)), 3)


def inputs() -> list[torch.Tensor]:
    return list(torch.rand(6, 1, 6, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("method", ["alpha-crown", "fast-c2v", "lp", "kpoly", "auto"])
def test_a_radius_is_not_below_a_cheaper_method_s(model: Model, method: str) -> None:
    better, fine = 0, FINENESS * MOST.eps
    cheap, dear = (Prover(model, (6,), method=name) for name in ("crown", method))
    for x in inputs():
        label = dear.answer(x)
        first, _ = cheap.radius(x, label, MOST)
        radius, proof = dear.radius(x, label, MOST)
        assert radius >= first - fine
        better += radius > first + fine
        assert (proof.holds, proof.confirmed) == (True, True)
        larger = Threat("linf", radius + 2 * fine)
        assert not dear.prove(x, label, larger, confirm=False).holds
    assert better > 0


def test_large_radii_are_not_tried(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[float]] = {"crown": [], "lp": []}

    def noted(model, threat, x, *, method, **more):
        asked[method].append(threat.eps)
        return compute(model, threat, x, method=method, **more)

    monkeypatch.setattr(proving, "compute", noted)
    prover, x = Prover(model, (6,), method="lp"), inputs()[0]
    radius, _ = prover.radius(x, prover.answer(x), MOST)
    assert max(asked["crown"]) == MOST.eps
    assert max(asked["lp"]) < 1.5 * radius < MOST.eps
    assert len(asked["lp"]) < len(asked["crown"])


def test_what_cannot_be_checked_again_is_bounded_in_full(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that was left just above zero may fail that check where a better bound does not."""
    decided: list[bool] = []
    again = proving.recheck

    def noted(*given, decide, **more):
        decided.append(decide)
        return compute(*given, decide=decide, **more)

    def refused_once(graph, region, rows, trace):
        found = again(graph, region, rows, trace)
        return found if len(decided) == 2 else found - 1e3

    monkeypatch.setattr(proving, "compute", noted)
    monkeypatch.setattr(proving, "recheck", refused_once)
    prover, x = Prover(model, (6,), method="lp"), inputs()[0]
    proof = prover.prove(x, prover.answer(x), Threat("linf", 0.01))
    assert (proof.holds, proof.confirmed, decided) == (True, True, [True, False])
    monkeypatch.setattr(proving, "recheck", lambda *given: again(*given) - 1e3)
    decided.clear()
    proof = prover.prove(x, prover.answer(x), Threat("linf", 0.01))
    assert (proof.holds, proof.confirmed, decided) == (False, False, [True, False])


@pytest.mark.parametrize("root", [0.003, 0.4, 0.42, 0.55, 0.9, 2.0])
@pytest.mark.parametrize("first", [0.001, 0.4, 1.0])
def test_climbing_ends_around_the_root(first: float, root: float) -> None:
    fine, tried = 1e-3, []

    def holds(eps: float) -> tuple[bool, float]:
        tried.append(eps)
        return eps < root, root - eps

    bracket = climbed(holds, first, 1.0, gap=root, fine=fine)
    assert bracket.low < root
    if root > 1:
        assert bracket.low == bracket.high == 1.0
        assert not bracket.open
    else:
        assert bracket.low < root <= bracket.high <= 1.0
        assert bracket.high <= max(first, 5 * root)
    assert tried == sorted(set(tried))
    assert len(tried) <= 12


def test_an_open_record_names_the_class_that_was_asked_last(model: Model) -> None:
    """Others keep a cheaper method's bounds, of which the record says nothing."""
    prover, seen = Prover(model, (6,), method="lp"), 0
    for x in inputs():
        label = prover.answer(x)
        radius, _ = prover.radius(x, label, MOST)
        for factor in (1.05, 1.3):
            threat = Threat("linf", factor * radius)
            proof = prover.prove(x, label, threat)
            rows = margins(torch.tensor([label]), 3)
            full = compute(model, threat, x, method="lp", rows=rows).lower[0]
            place = proof.against - (proof.against > label)
            assert not proof.holds
            assert proof.margin == pytest.approx(float(full[place]), abs=1e-4)
            seen += 1
    assert seen == 12


@pytest.mark.parametrize("eps", [1e-300, 1e-320])
def test_the_least_radii_end_a_search(model: Model, eps: float) -> None:
    prover, x = Prover(model, (6,), method="alpha-crown"), inputs()[0]
    radius, proof = prover.radius(x, prover.answer(x), Threat("linf", eps))
    assert proof.holds
    assert 0 < radius <= eps


def test_brackets_begin_anywhere() -> None:
    bracket, steps = Bracket(0.4, 0.5, 0.025, -0.075, 1e-4), 0
    while bracket.open:
        at = bracket.place()
        assert bracket.low < at < bracket.high
        bracket.cut(at, 0.425 - at, above=at < 0.425)
        steps += 1
    assert bracket.low < 0.425 <= bracket.high
    assert steps <= 8
