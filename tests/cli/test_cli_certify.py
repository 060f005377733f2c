"""``phalanx certify`` from the command line: answers, plans, budgets, conditions, sharing."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from phalanx.cli.progress import _bar, _Shown, watch
from phalanx.errors import PhalanxError
from phalanx.runs.store import RunStore

FACTORY = """
import torch
from torch import nn

def good(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()

def other():
    return good(1)
"""
DECLARED = ["--input-range", "0", "1", "--classes", "10", "--normalised-inside"]
SMALL = ["--data", "digits", "--sigma", "1/4", "--n", "400", "--n0", "50", "--limit", "4"]


@pytest.fixture
def models(tmp_path):
    """Two MODEL arguments of one file."""
    (tmp_path / "net.py").write_text(FACTORY)
    return [f"{tmp_path}/net.py:good", f"{tmp_path}/net.py:other"]


def test_one_model_is_certified(command, models, tmp_path):
    code, out, err = command("certify", models[0], *DECLARED, *SMALL, "--out", tmp_path / "run")
    assert code == 0
    assert "ACR" in out
    assert err.strip().splitlines()[-1] == str(tmp_path / "run")


def test_json_is_one_object_with_the_promised_keys(command, models, tmp_path):
    arguments = [*models, *DECLARED, *SMALL, "--each", "--reducer", "soft", "--json"]
    code, out, _ = command("certify", *arguments, "--out", tmp_path / "run")
    answer = json.loads(out)
    assert code == 0
    assert {
        "certified_accuracy",
        "average_certified_radius",
        "clean_accuracy",
        "abstained",
        "errors",
        "images",
        "samples",
    } <= set(answer)
    assert list(answer["classifiers"]) == ["softmax", "member-0", "member-1"]
    assert answer["samples"] == 4 * 450


def test_a_plan_spends_nothing(command, models, tmp_path):
    arguments = [models[0], *DECLARED, *SMALL, "--plan", "--json"]
    code, out, _ = command("certify", *arguments, "--out", tmp_path / "run")
    plan = json.loads(out)
    assert code == 0
    assert plan["forward_passes"] == 4 * 450
    assert plan["largest_radius"] == pytest.approx(0.25 * 2.1154, abs=1e-3)
    assert not (tmp_path / "run").exists()


def test_the_same_command_continues_and_a_changed_one_is_refused(command, models, tmp_path):
    arguments = ["certify", models[0], *DECLARED, *SMALL, "--out", tmp_path / "run"]
    assert command(*arguments)[0] == 0
    with RunStore.open(tmp_path / "run") as store:
        digest = store.digest()
    assert command(*arguments)[0] == 0
    code, _, err = command(*arguments, "--alpha", "0.01")
    assert code == 2
    assert "alpha" in err
    with RunStore.open(tmp_path / "run") as store:
        assert store.digest() == digest


@pytest.mark.slow  # the quick one is tests/soundness/test_soundness_invariance.py
def test_two_workers_share_a_run(command, models, tmp_path):
    arguments = ["certify", *models, *DECLARED, *SMALL, "--set", "chunk=100", "--batch", "50"]
    assert command(*arguments, "--out", tmp_path / "one")[0] == 0
    assert command(*arguments, "--out", tmp_path / "two", "--workers", "2")[0] == 0
    with RunStore.open(tmp_path / "one") as one, RunStore.open(tmp_path / "two") as two:
        assert one.digest() == two.digest()


@pytest.mark.parametrize(
    ("condition", "code"),
    [("certified@0.25>=0.99", 5), ("point:acr>=0", 0), ("certified@0>=0", 0), ("nonsense", 2)],
)
def test_requirements_decide_the_exit_code(command, models, tmp_path, condition, code):
    arguments = [models[0], *DECLARED, *SMALL, "--require", condition]
    assert command("certify", *arguments, "--out", tmp_path / "run")[0] == code


def test_a_budget_fixes_the_samples_before_the_first(command, models, tmp_path):
    arguments = [models[0], *DECLARED, "--data", "digits", "--sigma", "0.25", "--budget", "2s"]
    code, out, err = command("certify", *arguments, "--json", "--out", tmp_path / "run")
    assert code == 0, err
    answer = json.loads(out)
    with RunStore.open(tmp_path / "run") as store:
        n = store.manifest.config["n"]
        assert {row.n for row in store.certificates()} == {n}
    assert 1000 <= n <= 100_000
    assert answer["images"] >= 1


def test_options_come_from_a_file_and_from_set(command, models, tmp_path):
    (tmp_path / "options.yaml").write_text("n: 300\nalpha: 0.01\n")
    arguments = [models[0], *DECLARED, *SMALL, "--config", tmp_path / "options.yaml"]
    arguments += ["--set", "n=200", "--out", tmp_path / "run"]
    assert command("certify", *arguments)[0] == 0
    with RunStore.open(tmp_path / "run") as store:
        assert store.manifest.config["n"] == 200
        assert store.manifest.config["alpha"] == 0.01


@pytest.mark.parametrize("option", ["n=many", "n", "speed=9", "fold=1"])
def test_options_that_mean_nothing_are_refused(command, models, tmp_path, option):
    arguments = [models[0], *DECLARED, *SMALL, "--set", option, "--out", tmp_path / "run"]
    code, _, err = command("certify", *arguments)
    assert code == 2
    assert "error:" in err


def test_two_commands_started_at_once_share_a_fresh_run(models, tmp_path):
    """The one that loses the race to make the run adopts what the other one tuned."""
    command = [sys.executable, "-m", "phalanx.cli.main", "certify", models[0], *DECLARED, *SMALL]
    command += ["--out", str(tmp_path / "run")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    errors = [process.communicate(timeout=200)[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    with RunStore.open(tmp_path / "run") as store:
        assert store.finished() == {0, 1, 2, 3}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_budgeted_run_continues_under_the_same_command(command, models, tmp_path, workers):
    arguments = [models[0], *DECLARED, "--data", "digits", "--sigma", "0.25", "--budget", "2s"]
    arguments += ["--limit", "40", "--workers", workers, "--out", tmp_path / "run"]
    assert command("certify", *arguments)[0] == 0
    with RunStore.open(tmp_path / "run") as store:
        first, n = store.finished(), store.manifest.config["n"]
    assert command("certify", *arguments)[0] == 0
    with RunStore.open(tmp_path / "run") as store:
        assert store.finished() >= first
        assert store.manifest.config["n"] == n


def test_flags_win_over_the_file_and_sigma_may_come_from_either(command, models, tmp_path):
    (tmp_path / "options.yaml").write_text("n: 300\nsigma: 0.25\n")
    arguments = [models[0], *DECLARED, "--data", "digits", "--limit", "2", "--n", "200"]
    arguments += ["--config", tmp_path / "options.yaml", "--out", tmp_path / "run"]
    assert command("certify", *arguments)[0] == 0
    with RunStore.open(tmp_path / "run") as store:
        assert (store.manifest.config["n"], store.manifest.config["sigma"]) == (200, 0.25)


def test_what_is_missing_is_said_before_the_path_of_the_run(command, models, tmp_path):
    arguments = [models[0], *DECLARED, *SMALL, "--require", "acr>=9", "--out", tmp_path / "run"]
    code, _, err = command("certify", *arguments)
    assert code == 5
    assert "acr>=9" in err
    assert err.strip().splitlines()[-1] == str(tmp_path / "run")


class Ended:
    """A process that has ended."""

    def __init__(self, returncode: int) -> None:
        self.returncode = returncode

    def poll(self) -> int:
        return self.returncode


@pytest.mark.parametrize(
    ("codes", "code"), [((3, 3), 3), ((0, 3), 3), ((3, 4), 1), ((-9, 0), 1), ((-9, 3), 1)]
)
def test_workers_that_fail_hand_on_their_exit_code(codes, code):
    request, store = SimpleNamespace(indices=[0, 1]), SimpleNamespace(finished=lambda: {0})
    with pytest.raises(PhalanxError, match="1 images are left") as caught:
        watch(request, store, [Ended(value) for value in codes])
    assert caught.value.exit_code == code


def test_a_line_says_how_much_time_is_left(monkeypatch, capsys):
    ticks = iter([0.0, 10.0, 40.0, 50.0])
    monkeypatch.setattr("phalanx.cli.progress.time.monotonic", lambda: next(ticks))
    show = _Shown(_bar(), total=12, done=2)
    for done in (3, 4, 5):
        show(done, "2 processes")
    assert capsys.readouterr().err == "4 of 12 images, 2 processes, left 2 min 40 s\n"
