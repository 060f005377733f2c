"""Runs of deterministic certificates: sound under attack, resumable, readable, refused in words."""

from __future__ import annotations

import json
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from torch import nn

import phalanx
from phalanx.bounds.front import compute, margins
from phalanx.data.arrays import from_arrays
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import (
    ConfigurationError,
    DataError,
    ModelError,
    ParameterError,
    RunError,
)
from phalanx.evaluation import proving
from phalanx.evaluation.bounding import BoundSweep, open_bound_run, request_bounds
from phalanx.evaluation.proving import Prover
from phalanx.graph.ir import Graph
from phalanx.models import imported
from phalanx.models.model import InputSpec, Model
from phalanx.runs.bounded import contradictions, explain_bounded
from phalanx.runs.explain import explain
from phalanx.runs.query import summarise
from phalanx.runs.recheck import Outcome, recheck
from phalanx.runs.store import RunStore
from phalanx.specs.threat import Threat
from phalanx.verdicts import Verdict

EPS = 0.03
SPEC = InputSpec((0.0, 1.0), mean=(0.5,), std=(0.25,), shape=(1, 8, 8))


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    data = phalanx.load_data("digits")
    return data.images(list(range(300))), data.labels(list(range(300)))


@pytest.fixture(scope="module")
def trained() -> Model:
    """A small convolutional network, trained on digits for a second."""
    x, y = digits()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(),
            nn.Linear(36, 24), nn.ReLU(), nn.Linear(24, 10),
        )  # fmt: skip
    model = Model(net, SPEC, 10)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return Model(net.eval(), SPEC, 10)


def asked(model: Model, count: int = 12, **more):
    x, y = digits()
    options = {"method": "crown", "eps": EPS, **more}
    return request_bounds([model], from_arrays(x[:count], y[:count]), **options)


def run(model: Model, out=None, **more) -> RunStore:
    request = asked(model, **more)
    store = open_bound_run(request, out, command="test")
    BoundSweep(request, store).run()
    return store


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow)])
def test_attacks_inside_certified_balls_find_nothing(trained: Model, norm: str) -> None:
    x, y = digits()
    found = phalanx.certify(
        trained, x[:25], y[:25], method="crown", search=True, norm=norm, eps=1.0
    )
    radii = [record.radius for record in found]
    assert all(record.verdict is Verdict.VERIFIED for record in found)
    assert len(set(radii)) > 20
    for image, record in enumerate(found):
        at = x[image : image + 1]
        label = torch.tensor([record.predicted])
        attacked = phalanx.attack(
            trained, at, label, attack="pgd", norm=norm, eps=record.radius, steps=20
        )
        assert not attacked.success.any()
    # The test of the test: far outside the same attack breaks nearly all.
    labels = torch.tensor([record.predicted for record in found])
    far = phalanx.attack(trained, x[:25], labels, attack="pgd", norm=norm, eps=8 * max(radii))
    assert float(far.success.double().mean()) > 0.9


def test_records(trained: Model) -> None:
    store = run(trained, count=25, eps=0.06)
    verdicts = {record.verdict for record in store.certificates()}
    assert verdicts == {Verdict.VERIFIED, Verdict.FALSIFIED, Verdict.UNKNOWN} or len(verdicts) > 1
    for record in store.certificates():
        assert not contradictions(record, store.manifest.config)
        assert record.details["arithmetic"] == "outward"
        assert record.radius == (0.06 if record.verdict is Verdict.VERIFIED else 0.0)
        if record.verdict is Verdict.UNKNOWN:
            assert "margin" in record.reason
    summary = summarise(store)
    right = sum(bool(record.correct) for record in store.certificates())
    assert summary.clean_accuracy == right / 25


def test_hulls_prove_what_lines_do_not_and_are_checked_again(trained: Model) -> None:
    x, _ = digits()
    provers = {name: Prover(trained, (1, 8, 8), method=name) for name in ("crown", "kpoly")}
    more = 0
    for image, eps in ((2, 0.09), (2, 0.095), (3, 0.067), (3, 0.07)):
        at = x[image : image + 1]
        label = provers["crown"].answer(at)
        lines, hulls = (p.prove(at, label, Threat("linf", eps)) for p in provers.values())
        assert hulls.holds or not lines.holds
        assert hulls.confirmed is (True if hulls.holds else None)
        more += hulls.holds and not lines.holds
    assert provers["kpoly"].arithmetic == "outward"
    assert more


def test_what_is_proven_depends_on_no_company_and_survives_a_stop(trained: Model, tmp_path) -> None:
    whole = run(trained, count=6)
    parts = tmp_path / "run"
    run(trained, parts, count=6, indices=[4])
    resumed = run(trained, parts, count=6)
    for a, b in zip(whole.certificates(), resumed.certificates(), strict=True):
        assert (a.image, a.verdict, a.radius, a.details) == (
            b.image,
            b.verdict,
            b.radius,
            b.details,
        )
    with pytest.raises(ConfigurationError, match="eps"):
        run(trained, parts, count=6, eps=0.01)


def test_auto_is_cheapest_first_and_never_proves_less(trained: Model) -> None:
    found = run(trained, method="auto", eps=0.04).certificates()
    crown = run(trained, method="crown", eps=0.04).certificates()
    for ours, theirs in zip(found, crown, strict=True):
        assert ours.details["method"] == ours.details["tried"][-1]
        if theirs.verdict is Verdict.VERIFIED:
            assert ours.verdict is Verdict.VERIFIED
    assert len({record.details["method"] for record in found}) > 1


def test_a_success_that_roundings_made_is_not_given(trained: Model) -> None:
    class Absorbing(nn.Module):
        def forward(self, x):
            big = 2.0**25
            lost = torch.relu(torch.relu(x.flatten(1)[:, :1] + big) - big)
            return torch.cat([0.5 - lost, 0 * lost], 1)

    model = Model(Absorbing().eval(), InputSpec((0.0, 1.0), shape=(1, 1, 1)), 2)
    data = from_arrays(torch.full((1, 1, 1, 1), 0.25))
    for arithmetic, verdict in (("real", Verdict.VERIFIED), ("outward", Verdict.UNKNOWN)):
        request = request_bounds(
            [model], data, method="crown", eps=0.5, arithmetic=arithmetic, falsify=False
        )
        store = open_bound_run(request, None, command="test")
        BoundSweep(request, store).run()
        (record,) = store.certificates()
        assert record.verdict is verdict
        assert record.details["arithmetic"] == arithmetic
    assert record.reason == "the bounds hold only up to roundings: not given"


@pytest.mark.parametrize("refused", [0, 1, 3])
def test_a_search_checks_what_it_ends_with_and_steps_back_where_that_fails(
    trained: Model, refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By bounds alone the search costs as many; a radius whose check fails is never returned."""
    checked: list[float] = []
    again = proving.recheck

    def counted(graph, region, rows, trace):
        checked.append(region.eps)
        found = again(graph, region, rows, trace)
        return found if len(checked) > refused else found - 1e3

    monkeypatch.setattr(proving, "recheck", counted)
    x, prover = digits()[0][1:2], Prover(trained, (1, 8, 8), method="crown")
    fine = proving.FINENESS * 0.2
    radius, proof = prover.radius(x, prover.answer(x), Threat("linf", 0.2))
    assert (proof.holds, proof.confirmed, len(checked)) == (True, True, 1 + refused)
    assert radius == pytest.approx(checked[-1], rel=1e-5)
    steps = [first - later for first, later in pairwise(checked)]
    assert steps == pytest.approx([fine * 2**k for k in range(refused)], rel=1e-2)
    above = Threat("linf", checked[0] + 2 * fine)
    assert not prover.prove(x, prover.answer(x), above, confirm=False).holds


def test_a_search_proves_nothing_twice_where_nothing_is_checked_again(
    trained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, prover = digits()[0][1:2], Prover(trained, (1, 8, 8), method="crown", arithmetic="real")
    prove, asked_for = prover.prove, []

    def counted(x, label, threat, **more):
        asked_for.append(threat.eps)
        return prove(x, label, threat, **more)

    monkeypatch.setattr(prover, "prove", counted)
    radius, proof = prover.radius(x, prover.answer(x), Threat("linf", 0.2))
    assert (proof.holds, proof.confirmed) == (True, None)
    assert radius in asked_for
    assert len(set(asked_for)) == len(asked_for)


def test_nan_is_an_error_and_no_verdict(trained: Model) -> None:
    class Sometimes(nn.Module):
        def forward(self, x):
            first = x.flatten(1)[:, :1]
            return torch.cat([torch.log(first - 0.25), first], 1)

    model = Model(Sometimes().eval(), InputSpec((0.0, 1.0), shape=(1, 1, 1)), 2)
    data = from_arrays(torch.tensor([0.9, 0.1]).reshape(2, 1, 1, 1))
    request = request_bounds([model], data, method="crown", eps=0.01, indices=[0], falsify=False)
    request = type(request)(**{**vars(request), "indices": [0, 1]})
    store = open_bound_run(request, None, command="test")
    BoundSweep(request, store).run()
    sure, wrong = store.certificates()
    assert sure.verdict is Verdict.VERIFIED
    assert (wrong.verdict, wrong.radius, wrong.correct) == (Verdict.ERROR, None, False)


def test_runs_are_explained_and_checked_for_contradictions(trained: Model) -> None:
    store = run(trained)
    assert recheck(store).count(Outcome.NOT_RECHECKABLE) == 12
    assert recheck(store).ok
    record = next(r for r in store.certificates() if r.verdict is Verdict.VERIFIED)
    said = " ".join(explain_bounded(store, "model", record.image))
    assert "crown" in said
    assert "roundings counted" in said
    with pytest.raises(RunError):
        explain_bounded(store, "model", 99)
    with pytest.raises(RunError, match="votes"):
        explain(store, record.image)
    bad = type(record)(**{**vars(record), "details": {**record.details, "margin": -1.0}})
    assert contradictions(bad, store.manifest.config)


def test_refusals(trained: Model) -> None:
    for error, more in (
        (ParameterError, {"eps": None}),
        (ParameterError, {"eps": -1.0}),
        (ParameterError, {"eps": float("nan")}),
        (ParameterError, {"norm": "l3"}),
        (ParameterError, {"method": "magic"}),
        (ParameterError, {"arithmetic": "wishful"}),
        (ParameterError, {"options": {"speed": 9}}),
        (DataError, {"indices": []}),
    ):
        with pytest.raises(error):
            asked(trained, **more)
    with pytest.raises(ModelError, match="no model"):
        request_bounds([], from_arrays(digits()[0][:1]), eps=0.1)


def test_every_operator_is_certified_outward() -> None:
    gelu = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.GELU(), nn.Linear(4, 10)).eval()
    pooled = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 10)).eval()
    for net in (gelu, pooled):
        assert asked(Model(net, SPEC, 10), arithmetic="outward").config["arithmetic"] == "outward"


@pytest.fixture(scope="module")
def members(trained: Model) -> list[Model]:
    """The trained network, and two that answer nearly as it does."""
    found = [trained]
    for key in (1, 2):
        other = deepcopy(trained)
        generator = torch.Generator().manual_seed(key)
        with torch.no_grad():
            for weight in other.network.parameters():
                weight.add_(0.02 * torch.randn(weight.shape, generator=generator))
        found.append(other)
    return found


@pytest.mark.parametrize(
    ("reducer", "arithmetic"),
    [(name, "outward") for name in ("mean", "softmax", "vote", "max-margin", "weighted:1,2,1")],
)
def test_an_ensemble_is_certified_as_one(members, reducer, arithmetic) -> None:
    x, y = digits()
    request = request_bounds(
        members, from_arrays(x[:3], y[:3]), reducer=reducer, method="crown", eps=0.01
    )
    assert request.config["arithmetic"] == arithmetic
    assert request.classifier.name == reducer
    store = open_bound_run(request, None, command="test")
    BoundSweep(request, store).run()
    records = store.certificates()
    assert sum(record.verdict is Verdict.VERIFIED for record in records) >= 2
    ensemble = Ensemble(members, reducer)
    noise = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1
    for record in records:
        if record.verdict is Verdict.VERIFIED:
            near = (x[record.image] + 0.01 * noise).clamp(0, 1)
            assert bool((ensemble(near).argmax(1) == record.predicted).all())


@pytest.mark.parametrize("arithmetic", ["real", "outward"])
def test_members_are_exported_once(
    members: list[Model], arithmetic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again in double precision where roundings are counted; never in a proof."""
    exported: list[nn.Module] = []
    export = imported.from_torch

    def counted(network: nn.Module, shape: tuple[int, ...]) -> Graph:
        exported.append(network)
        return export(network, shape)

    monkeypatch.setattr(imported, "from_torch", counted)
    x, ensemble = digits()[0][:1], Ensemble(members, "vote")
    prover = Prover(ensemble, (1, 8, 8), method="interval", arithmetic=arithmetic)
    wanted = len(members) * (2 if arithmetic == "outward" else 1)
    assert len(exported) == wanted
    radius, proof = prover.radius(x, prover.answer(x), Threat("linf", EPS))
    assert (proof.holds, radius > 0, len(exported)) == (True, True, wanted)
    # What is bounded is what was bounded when every proof read the members.
    rows = margins(torch.tensor([prover.answer(x)]), 10)
    threat = Threat("linf", radius)
    found = [
        compute(model, threat, x, method="crown", rows=rows).lower
        for model in (ensemble, prover.bounded)
    ]
    assert torch.equal(*found)


@pytest.mark.slow
def test_the_mean_of_members_is_tighter_than_each_apart(members) -> None:
    """Three times the same network in other words: linear bounds are summed before the corner."""
    x, y = digits()
    whole = asked_radius(members, x[:4], y[:4])
    apart = [asked_radius([one], x[:4], y[:4]) for one in members]
    assert (whole >= torch.stack(apart).amin(0)).all()


def asked_radius(models, x, y) -> torch.Tensor:
    request = request_bounds(models, from_arrays(x, y), method="crown", search=True, eps=0.2)
    store = open_bound_run(request, None, command="test")
    BoundSweep(request, store).run()
    return torch.tensor([record.radius for record in store.certificates()])


def test_command_line(trained: Model, tmp_path, command) -> None:
    factory = tmp_path / "net.py"
    factory.write_text(
        "import torch\nfrom torch import nn\n"
        "def net():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))"
        ".eval()\n"
    )
    declared = ["--input-range", 0, 1, "--classes", 10, "--normalised-inside"]
    model, out = f"{factory}:net", tmp_path / "run"
    plain = ["certify", model, "--data", "digits", "--limit", 3, *declared]
    code, said, log = command(*plain, "--method", "crown", "--eps", "2/255", "--out", out, "--json")
    assert code == 0
    assert json.loads(said)
    assert log.strip().endswith(str(out))
    for words in (("show", out), ("explain", out, 0), ("recheck", out), ("report", out)):
        code, said, _ = command("runs", *words)
        assert code == 0, words
    code, said, _ = command("runs", "list", "--root", tmp_path)
    assert "bounds" in said
    code, said, log = command(
        *plain, "--method", "auto", "--radius", "search", "--out", tmp_path / "b"
    )
    assert code == 0
    assert "no noise level is known" in log
    code, _, _ = command("runs", "compare", out, tmp_path / "b")
    assert code == 0
    for more in (["--method", "crown"], ["--method", "crown", "--eps", 0.1, "--sigma", 0.1],
                 ["--method", "crown", "--eps", 0.1, "--n", 100],
                 ["--method", "crown", "--eps", 0.1, "--radius", 0.1],
                 ["--method", "smoothing", "--eps", 0.1]):  # fmt: skip
        code, _, log = command(*plain, *more)
        assert code == 2, more
        assert "error" in log
