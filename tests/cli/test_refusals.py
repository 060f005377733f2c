"""The error table: what cannot end in a valid certificate is refused, and always alike.

Every case is one call that is wrong in one way, made through Python and through the command
line: the same class of error, its exit code, the same words, no traceback, and a run that was
there before stays as it was.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from refusal_cases import CASES, Case, Changes
from refused_choices import CHOICES

import phalanx
from phalanx.cli import main
from phalanx.data.locate import load
from phalanx.errors import PhalanxError, SampleErrors
from phalanx.models.build import networks
from phalanx.verdicts import Verdict

MODELS = Path(__file__).parent / "refused_models.py"
GOOD = {
    "models": ["good"],
    "data": "digits",
    "sigma": 0.25,
    "n": 200,
    "n0": 50,
    "batch": 64,
    "input_range": (0, 1),
    "classes": 10,
    "normalised_inside": True,
}
DECLARATION = ("input_range", "mean", "std", "classes", "normalised_inside", "weights")

OPTIONS = {"radii": "radius"}
"""Options that the command line calls otherwise."""


def through_python(call: Changes) -> phalanx.CertifyResult:
    """`phalanx.load` and `phalanx.certify`."""
    call = dict(call)
    said = {key: call.pop(key) for key in DECLARATION if key in call}
    specs, data, y = call.pop("models"), call.pop("data"), call.pop("y", None)
    subset, options = {k: call.pop(k) for k in ("limit", "every") if k in call}, call.pop("set", {})
    models = phalanx.load(*map(spec_of, specs), **said)
    if isinstance(data, str):
        data = load(data)
        data.select(**subset)
    if "reducer" in call:
        call["reducers"] = call.pop("reducer")
    return phalanx.certify(models, data, y, **call, **options)


def command_line(call: Changes, folder: Path) -> list[str]:
    """``phalanx certify ...``; arrays become a file."""
    call = {"limit": 4, **call}  # as many as are looked at before anything is spent
    words = ["certify", *map(spec_of, call.pop("models"))]
    if not isinstance(call["data"], str):
        arrays = {"x": np.asarray(call["data"]), "y": call.pop("y", None)}
        np.savez(folder / "mine.npz", **{k: v for k, v in arrays.items() if v is not None})
        call["data"] = str(folder / "mine.npz")
    for name, value in call.items():
        option = f"--{OPTIONS.get(name, name).replace('_', '-')}"
        if name == "set":
            words += [w for k, v in value.items() for w in ("--set", f"{k}={v}")]
        elif value is True:
            words.append(option)
        elif isinstance(value, list):
            words += [word for item in value for word in (option, str(item))]
        else:
            words += [option, *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def spec_of(model: str) -> str:
    """A factory of `refused_models` by its name; anything else as it is."""
    return f"{MODELS}:{model}" if model.isidentifier() and model not in networks.names() else model


@pytest.fixture
def run_command(monkeypatch, capsys, tmp_path) -> Callable[[list[str]], tuple[int, str]]:
    """Run a command in this process: its exit code and what it wrote to stderr."""
    monkeypatch.chdir(tmp_path)

    def run(words: list[str]) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["phalanx", *words])
        with pytest.raises(SystemExit) as stop:
            main.main()
        return int(stop.value.code or 0), capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    """A finished run of the good call."""
    folder = tmp_path_factory.mktemp("healthy") / "run"
    through_python({**GOOD, "out": folder})
    return folder


def contents(folder: Path) -> tuple[str, str]:
    """What a run says: its manifest and the digest of its records."""
    with phalanx.RunStore.open(folder) as store:
        return (folder / "run.json").read_text(), store.digest()


@pytest.mark.parametrize("case", [*CASES, *CHOICES], ids=lambda case: case.name)
def test_refused(case: Case, healthy: Path, tmp_path: Path, run_command) -> None:
    out = shutil.copytree(healthy, tmp_path / "run")
    before = contents(out)
    change = case.change(tmp_path) if callable(case.change) else case.change
    call = {**GOOD, "out": out, **change}
    damaged = call.pop("expect_damage", False)
    call = {name: value for name, value in call.items() if value is not None}
    words = command_line(call, tmp_path)
    with case.around(), pytest.raises(PhalanxError) as caught:
        through_python(call)
    with case.around():
        code, stderr = run_command(words)

    error = caught.value
    assert type(error) is case.error
    assert case.says in str(error)
    assert error.what
    assert error.why or error.repair
    assert code == (2 if case.usage else error.exit_code)
    assert "Traceback" not in stderr
    if case.words and not case.usage:
        assert stderr.endswith(f"error: {error}\n")
    else:
        assert len(stderr.strip()) > 20
    if not damaged:
        assert contents(out) == before
    assert not (tmp_path / "runs").exists()


def test_the_same_call_without_a_mistake(healthy: Path, tmp_path: Path, run_command) -> None:
    """The control: a table that refuses everything proves nothing."""
    out = shutil.copytree(healthy, tmp_path / "run")
    before = contents(out)
    code, stderr = run_command(command_line({**GOOD, "out": out}, tmp_path))
    assert (code, stderr) == (0, f"{out}\n")
    assert contents(out) == before


def test_logits_that_turn_nan_under_noise(tmp_path: Path, run_command) -> None:
    """Only the samples can tell: the sweep ends, and says which images failed and why."""
    call = {**GOOD, "models": ["nan_under_noise"], "limit": 3}
    data = load("digits")
    rows = through_python({**call, "data": data.images(range(3)), "y": data.labels(range(3))})
    assert [row.verdict for row in rows] == [Verdict.ERROR] * 3
    assert [(row.predicted, row.radius, row.correct) for row in rows] == [(None, None, False)] * 3
    assert all("NaN" in row.reason for row in rows)
    code, stderr = run_command(command_line({**call, "out": tmp_path / "run"}, tmp_path))
    assert code == SampleErrors.exit_code
    assert "error: 3 certificates ended in an error" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--workers", "0"], "--workers is 0"),
        (["--budget", "soon"], "a budget of 'soon'"),
        (["--require", "robust"], "'robust' is not a requirement"),
        (["--set", "n"], "--set 'n'"),
        (["--set", "n=[1,"], "--set 'n=[1,'"),
        (["--config", "absent.yaml"], "absent.yaml cannot be read"),
        (["--config", str(MODELS)], "cannot be read"),
    ],
)
def test_options_that_only_the_command_line_has(words, says, tmp_path: Path, run_command) -> None:
    """Refused before anything is spent: not even the run's folder is made."""
    good = command_line({**GOOD, "out": tmp_path / "run"}, tmp_path)
    code, stderr = run_command([*good, *words])
    assert code == 2
    assert f"error: {says}" in stderr or says in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "run").exists()
