"""``phalanx doctor`` from the outside."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from phalanx.cli import doctor
from phalanx.errors import CheckpointError, ModelError
from phalanx.models.build import build
from phalanx.models.checkpoint import save
from phalanx.models.model import InputSpec, Model, ModelCard


@pytest.fixture
def run():
    app = typer.Typer()
    app.callback()(lambda: None)
    doctor.register(app)
    return lambda *words: CliRunner().invoke(app, ["doctor", *map(str, words)])


@pytest.fixture
def checkpoint(tmp_path):
    network = build("mlp", 10, (1, 8, 8), hidden=[4])
    card = ModelCard("digits", "mlp", {"hidden": [4]}, sigma=0.25)
    return save(Model(network, InputSpec(shape=(1, 8, 8)), 10, card), tmp_path / "net")


def test_a_checkpoint_on_data(run, checkpoint):
    result = run(checkpoint, "--data", "digits", "--limit", 32, "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["usable"]
    checks = {f["check"]: f["level"] for f in answer["models"][0]["findings"]}
    assert checks["function"] == checks["weights"] == "ok"
    assert "accuracy" in result.stdout


def test_text(run, checkpoint):
    result = run(checkpoint)
    assert result.exit_code == 0
    assert result.stdout.startswith("digits\n")
    assert "trained for sigma 0.25" in result.stdout


def test_an_unusable_model_is_examined_and_refused(run, tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\ndef make(): return nn.Linear(64, 10)\n")
    words = ("--input-range", 0, 1, "--classes", 10, "--normalised-inside")
    result = run(f"{tmp_path}/net.py:make", *words)
    assert isinstance(result.exception, ModelError)
    assert result.exception.exit_code == 3
    assert "training mode" in result.stdout
    assert "call .eval()" in result.stdout


def test_a_model_that_cannot_be_read(run, checkpoint):
    checkpoint.write_bytes(b"")
    assert isinstance(run(checkpoint).exception, CheckpointError)
