"""An audit from models to page: resumed, rechecked, and refused where it would mean nothing."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from phalanx.attacks.target import Expected
from phalanx.audit import collect
from phalanx.audit.collect import Found, carry_out, found_by, judge, place, read, write
from phalanx.audit.conduct import NOTE, Settings, conduct, trial_of
from phalanx.audit.drawn import DrawnMember
from phalanx.audit.protocols import EFFORTS, RANDOM, Effort, Protocol, effort_of, suite
from phalanx.data.dataset import DataCard, Dataset
from phalanx.errors import (
    AttackError,
    ConfigurationError,
    DataError,
    ModelError,
    ParameterError,
    RunError,
)
from phalanx.models.model import InputSpec, Model
from phalanx.reporting.html import render
from phalanx.runs.store import RunStore

IMAGES, SIZE = 70, 6
TINY = Effort(steps=4, queries=10, restarts=2)


def linear(seed):
    """A linear classifier of three classes that leans its own way."""
    layer = nn.Linear(SIZE, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, SIZE, generator=torch.Generator().manual_seed(seed)))
        layer.bias.zero_()
    return Model(layer.eval(), InputSpec((0.0, 1.0), shape=(SIZE,)), 3)


@pytest.fixture(scope="module")
def models():
    return [linear(0), linear(1)]


@pytest.fixture(scope="module")
def dataset(models):
    x = torch.rand(IMAGES, SIZE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        y = (models[0](x) + models[1](x)).argmax(-1)
    card = DataCard("planes", "test", shape=(SIZE,), classes=3, images=IMAGES)
    return Dataset(card, lambda indices: x[list(indices)], y)


SETTINGS = Settings("linf", 0.1, TINY)


@pytest.fixture
def trial(models, dataset):
    return trial_of(models, dataset, range(IMAGES), SETTINGS, "cpu")


def test_from_models_to_page(trial, dataset, tmp_path):
    found = conduct(trial, SETTINGS, dataset.card, tmp_path / "a", command="phalanx audit")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    value = {one["name"]: one["value"] for one in found["figures"]}
    assert value["worst case, expected"] <= value["published style"] <= 1
    assert value["worst case, every member right"] <= value["worst case, expected"]
    assert value["worst case, expected"] <= value["worst case, some member right"]
    for row in found["protocols"]:
        assert value["worst case, expected"] <= row["expected"]["value"] + 1e-12
        assert row["expected"]["value"] == pytest.approx(np.mean(row["members"]))
    assert not [row for row in found["protocols"] if row["kind"] == "unbounded"]
    with RunStore.open(tmp_path / "a") as run:
        assert run.get_meta(NOTE) == found
        page = render(run)
    for word in ("What the defence is worth", "worst case, averaged", "arc", "<svg"):
        assert word in page


def test_a_resumed_audit_makes_what_is_missing_and_nothing_else(trial, dataset, tmp_path):
    first = conduct(trial, SETTINGS, dataset.card, tmp_path)
    files = sorted((tmp_path / collect.PIECES).iterdir())
    assert len(files) == 2 * len(suite(2, TINY))  # seventy images are two pieces
    before = {path: path.read_bytes() for path in files}
    times = {path: path.stat().st_mtime_ns for path in files}
    gone = files[::7]
    for path in gone:
        path.unlink()
    assert conduct(trial, SETTINGS, dataset.card, tmp_path) == first
    for path in files:
        assert read(path).adversarial.numpy().tobytes() == _adversarial(before[path])
        assert (path.stat().st_mtime_ns == times[path]) == (path not in gone)


def _adversarial(data):
    from io import BytesIO

    with np.load(BytesIO(data)) as arrays:
        return arrays["adversarial"].tobytes()


def test_another_audit_does_not_join(trial, dataset, tmp_path):
    conduct(trial, SETTINGS, dataset.card, tmp_path)
    other = Settings("linf", 0.2, TINY)
    with pytest.raises(ConfigurationError, match=r"config.eps: 0.1 -> 0.2"):
        conduct(trial, other, dataset.card, tmp_path)


@pytest.mark.parametrize("damage", ["outside", "damaged"])
def test_stored_inputs_are_checked_again(trial, tmp_path, damage):
    (one,) = [protocol for protocol in suite(2, TINY) if protocol.name == "fgsm"]
    carry_out(trial, [one], tmp_path, lambda protocol, images: None)
    path = place(tmp_path, trial, one, slice(0, collect.PIECE))
    found = read(path)
    if damage == "outside":
        write(path, Found(found.adversarial + 0.05, found.queries, found.flat))
        with pytest.raises(AttackError, match="outside of ball or box"):
            found_by(trial, one, tmp_path)
    else:
        path.write_bytes(path.read_bytes()[:40])
        with pytest.raises(RunError, match="not a piece"):
            judge(trial, [one], tmp_path)


def test_expected_accuracy_is_the_mean_over_members(trial, models, tmp_path):
    pgd = Protocol("pgd", RANDOM, "pgd", "gradient", {"steps": 5})
    carry_out(trial, [pgd], tmp_path, lambda protocol, images: None)
    x = found_by(trial, pgd, tmp_path).adversarial
    with torch.no_grad():
        each = torch.stack([model(x).argmax(-1) == trial.y for model in models])
    assert (
        judge(trial, [pgd], tmp_path).answers.scored("pgd").tolist()
        == each.double().mean(0).tolist()
    )


def test_the_module_that_draws_draws_by_key(models):
    drawn = DrawnMember(Expected(models, [0.25, 0.75]))
    keys = [int(k) for k in np.random.default_rng(0).integers(0, 2**63, 4000)]
    member = drawn.drawn(keys)
    assert 0.72 < member.double().mean() < 0.78
    assert drawn.drawn(keys[:10]).tolist() == member[:10].tolist()
    x = torch.rand(10, SIZE)
    scores = drawn.see(x, keys[:10]).scores[0]
    for row, which in enumerate(member[:10].tolist()):
        assert torch.allclose(scores[row], models[which](x)[row], atol=1e-6)


def test_more_effort_makes_no_other_attacks():
    for name in EFFORTS:
        assert len(suite(3, effort_of(name))) == len(suite(3, TINY))


class Defence(nn.Module):
    """Somebody's random ensemble in one module."""

    def __init__(self, members):
        super().__init__()
        self.members = nn.ModuleList(member.network for member in members)
        self.probabilities = [0.25, 0.75]


def test_a_declared_defence_is_its_members(models, dataset):
    whole = Model(Defence(models).eval(), models[0].inputs, 3)
    found = trial_of([whole], dataset, range(4), SETTINGS, "cpu")
    assert len(found.ensemble.models) == 2
    assert list(found.probabilities) == [0.25, 0.75]


class Draws(nn.Module):
    """A network that draws numbers of its own and does not say so."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x + torch.rand(()))


def test_a_member_that_draws_in_secret_is_refused(models, dataset):
    secret = Model(Draws(models[0].network).eval(), models[0].inputs, 3)
    with pytest.raises(ModelError):
        trial_of([models[0], secret], dataset, range(8), SETTINGS, "cpu")


def test_what_would_mean_nothing_is_refused(models, dataset):
    with pytest.raises(ModelError, match="at least two"):
        trial_of(models[:1], dataset, range(4), SETTINGS, "cpu")
    with pytest.raises(DataError, match="labelled"):
        trial_of(models, dataset, [], SETTINGS, "cpu")
    with pytest.raises(ParameterError, match="probabilities of 2 members"):
        trial_of(models, dataset, range(4), Settings("linf", 0.1, TINY, "mean", [1.0]), "cpu")
    with pytest.raises(ParameterError, match="effort"):
        effort_of("hard")
    with pytest.raises(ParameterError, match="radius"):
        trial_of(models, dataset, range(4), Settings("linf", 0.0, TINY), "cpu")
