"""``phalanx train`` from the outside: answers, exit codes, refusals."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from phalanx.cli import train as command
from phalanx.cli.training_view import TrainingView
from phalanx.errors import ConfigurationError
from phalanx.training.events import EpochEnd

TINY = ["--set", "model.options.hidden=[16]", "--members", "2", "--epochs", "2", "--workers", "1"]


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "phalanx.cli.main", "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )


@pytest.fixture
def app(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    return lambda *arguments: CliRunner().invoke(app, ["train", *arguments])


def test_json_is_one_object_and_the_folder_is_the_last_line(app, tmp_path):
    result = app("digits-gaussian", *TINY, "--out", str(tmp_path), "--json")
    assert result.exit_code == 0, result.exception
    answer = json.loads(result.stdout)
    assert [member["member"] for member in answer["members"]] == [0, 1]
    assert answer["run"] == str(tmp_path)
    assert 0 < answer["members"][0]["noisy_accuracy"] <= 1
    assert result.stderr.splitlines()[-1] == str(tmp_path)
    assert sum("epoch" in line for line in result.stderr.splitlines()) == 4


@pytest.mark.parametrize(
    ("epoch", "seconds", "ends"),
    [
        (1, 0.004, "0.00 s  left less than a second"),
        (1, 2.0, "2.00 s  left 18 s"),
        (4, 75.0, "75.00 s  left 7 min 30 s"),
        (1, 900.0, "900.00 s  left 2 h 15 min"),
        (10, 75.0, "75.00 s"),
    ],
)
def test_the_time_left_is_said_for_people(epoch, seconds, ends, capsys):
    row = {"epoch": epoch, "loss": 0.5, "noisy_accuracy": 0.9, "seconds": seconds}
    with TrainingView() as view:
        view(EpochEnd((0, 1), row, epochs=10))
    says = f"member 0, 1  epoch {epoch}/10  loss 0.5000  training accuracy 0.9000  {ends}\n"
    assert capsys.readouterr().err == says


def test_a_table_and_a_folder_of_its_own(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = app("digits-gaussian", *TINY)
    assert result.exit_code == 0, result.exception
    assert "member-1" in result.stdout
    folder = tmp_path / result.stderr.splitlines()[-1]
    assert (folder / "weights" / "member-1.card.json").is_file()


def test_a_plan_writes_nothing(app, tmp_path):
    result = app("digits-gaussian", *TINY, "--plan", "--json", "--out", str(tmp_path / "x"))
    assert json.loads(result.stdout)["steps_each"] == 46
    assert not (tmp_path / "x").exists()


def test_options_are_fields_of_the_recipe(app, tmp_path):
    result = app("digits-gaussian", "--epochs", "0", "--out", str(tmp_path / "x"))
    assert isinstance(result.exception, ConfigurationError)
    assert "epochs" in str(result.exception)
    assert not (tmp_path / "x").exists()


def test_a_usage_error_exits_2_without_a_traceback(tmp_path):
    process = start("digits-gaussian", "--set", "epochs=none")
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2
    assert errors.startswith("error: the recipe does not fit: epochs")
    assert "Traceback" not in errors


def test_ctrl_c_exits_130_and_the_same_command_continues(tmp_path):
    arguments = ["digits-gaussian", "--set", "model.options.hidden=[16]", "--members", "2"]
    arguments += ["--epochs", "15", "--workers", "2", "--out", str(tmp_path)]
    process = start(*arguments)
    while not (tmp_path / "training.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "continues" in errors
    assert "Traceback" not in errors
    process = start(*arguments)
    process.communicate(timeout=200)
    assert process.returncode == 0
    assert len((tmp_path / "training.jsonl").read_text().splitlines()) == 30
