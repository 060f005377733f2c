"""Any module whose input is a float tensor: rows of a table, one feature, sequences, volumes."""

from __future__ import annotations

import json
from math import sqrt

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from torch import nn
from torch.nn.functional import cross_entropy

import phalanx
from phalanx.errors import DataError, ModelError
from phalanx.models.build import build
from phalanx.models.checkpoint import save
from phalanx.models.model import ModelCard
from phalanx.runs.recheck import Outcome, recheck
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict

RANGE, SIGMA, FEATURES, CLASSES = (-4.0, 5.0), 0.5, 13, 3
OPTIONS = {"sigma": SIGMA, "n": 1000, "n0": 50, "batch": 128, "device": "cpu"}


@pytest.fixture(scope="module")
def wine():
    """Every ninth row of scikit-learn's wines, standardised, and a network trained under noise."""
    rows, labels = load_wine(return_X_y=True)
    rows = ((rows - rows.mean(0)) / rows.std(0)).astype(np.float32)
    x, y = torch.from_numpy(rows), torch.from_numpy(labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES)
        )
        steps = torch.optim.Adam(network.parameters(), lr=0.02)
        for _ in range(100):
            steps.zero_grad()
            cross_entropy(network(x + SIGMA * torch.randn_like(x)), y).backward()
            steps.step()
    return network.eval(), rows[::9], labels[::9]


def rechecked(store: RunStore, count: int) -> None:
    found = recheck(store)
    assert found.ok, found.failures()[:2]
    assert found.count(Outcome.RECHECKED) == count


def model_of(network: nn.Module, **spec) -> phalanx.Model:
    return phalanx.Model(network, phalanx.InputSpec(RANGE, **spec), CLASSES)


def test_rows_of_a_table_are_certified_on_a_lattice(wine):
    network, x, y = wine
    result = phalanx.certify(model_of(network), x, y, **OPTIONS)
    rechecked(result.store, len(x))
    assert result.summary().clean_accuracy > 0.9
    assert max(row.radius for row in result) > SIGMA
    config = result.store.manifest.config
    # Measurements have no step of their own: the range is halved until cells are small.
    assert (config["arithmetic"], config["steps"], config["on_grid"]) == ("lattice", 4096, False)
    assert config["dimensions"] == FEATURES
    half_diagonal = 9 / 4096 * sqrt(FEATURES) / 2
    assert config["charged_distance"] == pytest.approx(half_diagonal, rel=1e-5)
    assert half_diagonal <= SIGMA / 64
    everywhere = phalanx.certify(model_of(network), x, y, **OPTIONS, covers="all")
    rechecked(everywhere.store, len(x))
    assert all(wide.radius <= row.radius for row, wide in zip(result, everywhere, strict=True))


def test_the_same_from_the_command_line(wine, tmp_path, command):
    network, x, y = wine
    np.savez(tmp_path / "wine.npz", x=x, y=y, value_range=np.array(RANGE))
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef wine():\n"
        f"    return nn.Sequential(nn.Linear({FEATURES}, 16), nn.BatchNorm1d(16), nn.ReLU(),"
        f" nn.Linear(16, {CLASSES}))\n"
    )
    weights = tmp_path / "weights.pt"
    torch.save(network.state_dict(), weights)
    declared = ["--input-range", -4, 5, "--classes", CLASSES, "--normalised-inside"]
    options = ["--sigma", SIGMA, "--n", 1000, "--n0", 50, "--batch", 128, "--device", "cpu"]
    out = tmp_path / "run"
    code, said, err = command(
        *("certify", f"{tmp_path / 'net.py'}:wine", "--weights", weights, *declared),
        *("--data", tmp_path / "wine.npz", *options, "--out", out, "--json"),
    )
    assert code == 0, err
    assert json.loads(said)["clean_accuracy"] > 0.9
    assert command("runs", "recheck", out)[0] == 0
    assert "clean" in command("runs", "show", out)[1]
    assert command("runs", "report", out)[0] == 0
    same = phalanx.certify(model_of(network), x, y, **OPTIONS)
    with RunStore.open(out) as store:
        assert [row.radius for row in store.certificates()] == [row.radius for row in same]


def test_a_checkpoint_of_a_table_is_a_model(wine, tmp_path, command):
    """A registered network on rows, saved and named by its path alone."""
    _, x, _ = wine
    network = build("mlp", CLASSES, (FEATURES,), key=3, hidden=[8]).eval()
    card = ModelCard("wine", "mlp", {"hidden": [8]}, sigma=SIGMA)
    model = phalanx.Model(network, phalanx.InputSpec(RANGE, shape=(FEATURES,)), CLASSES, card)
    path = save(model, tmp_path / "wine")
    np.savez(tmp_path / "rows.npz", x=x, value_range=np.array(RANGE))
    out = tmp_path / "run"
    data = ["--data", tmp_path / "rows.npz", "--n", 500, "--batch", 128, "--out", out]
    assert command("certify", path, *data)[0] == 0
    with RunStore.open(out) as store:
        rechecked(store, len(x))


def test_normalisation_is_by_feature(wine):
    """Means and deviations of rows lie along the features, whether or not the shape is known."""
    network, x, y = wine
    mean, std = [0.1 * i for i in range(FEATURES)], [1 + 0.1 * i for i in range(FEATURES)]
    for shape in (None, (FEATURES,)):
        model = model_of(network, mean=tuple(mean), std=tuple(std), shape=shape)
        expected = network((torch.from_numpy(x) - torch.tensor(mean)) / torch.tensor(std))
        assert torch.allclose(model(torch.from_numpy(x)), expected)
        rechecked(phalanx.certify(model, x, y, **OPTIONS).store, len(x))


class Sequence(nn.Module):
    """Classes of sequences ``(B, T, F)``, by the part that the literature would use."""

    def __init__(self, kind: str, features: int) -> None:
        super().__init__()
        self.kind = kind
        self.core = {
            "gru": lambda: nn.GRU(features, 8, batch_first=True),
            "lstm": lambda: nn.LSTM(features, 8, batch_first=True),
            "attention": lambda: nn.TransformerEncoderLayer(features, 2, 16, batch_first=True),
            "convolution": lambda: nn.Conv1d(features, 8, 3),
        }[kind]()
        self.head = nn.Linear(features if kind == "attention" else 8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "convolution":
            return self.head(self.core(x.mT).relu().mean(2))
        found = self.core(x)
        return self.head(found[0][:, -1] if isinstance(found, tuple) else found.mean(1))


def sequence_of(kind: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Sequence(kind, 4).eval()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["gru", "lstm", "attention", "convolution"])
def test_sequences_are_certified(kind, precision):
    x = np.random.default_rng(0).normal(size=(3, 7, 4)).clip(*RANGE)
    model = model_of(sequence_of(kind), shape=(7, 4))
    result = phalanx.certify(model, x, **OPTIONS, precision=precision)
    rechecked(result.store, 3)
    assert any(row.verdict is Verdict.VERIFIED for row in result)
    assert result.store.manifest.config["dimensions"] == 28
    again = phalanx.certify(model, x, **{**OPTIONS, "batch": 64}, precision=precision)
    if precision == "fp32":
        assert [row.n_a for row in again] == [row.n_a for row in result]


@pytest.mark.parametrize("shape", [(1,), (2, 2, 2, 2, 2)])
def test_other_shapes_are_certified(shape):
    network = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), CLASSES)).eval()
    x = np.random.default_rng(1).normal(size=(4, *shape)).clip(*RANGE)
    rechecked(phalanx.certify(model_of(network), x, **OPTIONS).store, 4)


def test_several_models_of_a_table_are_an_ensemble(wine):
    network, x, y = wine
    models = [model_of(network), model_of(nn.Linear(FEATURES, CLASSES).eval())] * 2
    options = {"reducers": ["vote", "mean"], "consensus": 2}
    result = phalanx.certify(models, x, y, **OPTIONS, **options)
    rechecked(result.store, 2 * len(x))


def test_a_range_has_to_be_declared(wine):
    network, x, y = wine
    with pytest.raises(ModelError, match="input range"):
        phalanx.certify(network, x, y, classes=CLASSES, normalised_inside=True, **OPTIONS)
    with pytest.raises(DataError, match="no declared range"):
        phalanx.certify(phalanx.Model(network, phalanx.InputSpec(), CLASSES), x, y, **OPTIONS)
    narrow = phalanx.Model(network, phalanx.InputSpec((-1.0, 1.0)), CLASSES)
    with pytest.raises(DataError, match=r"declared range is -1 .. 1"):
        phalanx.certify(narrow, x, y, **OPTIONS)
