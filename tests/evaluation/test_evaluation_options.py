"""Options of certify by bounds: Python and the command line refuse the same, in the same words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

import phalanx
from phalanx.bounds.options import Options
from phalanx.bounds.problem import methods
from phalanx.errors import ParameterError
from phalanx.evaluation.deciding import options_of
from phalanx.evaluation.proving import AUTO
from phalanx.studies.grids.grid import grid_names, load_grid
from phalanx.verify.engine import engines

NAN, INF = float("nan"), float("inf")
DECLARED = {"input_range": (0.0, 1.0), "classes": 10, "normalised_inside": True}
ALL = [*methods.names(), AUTO, *engines.names()]
DEFAULTS = {option.name: option.default for option in fields(Options)}

REFUSED = [
    ("crown", "iterations", "abc", "crown does not read the option 'iterations'"),
    ("crown", "cuts", 1.5, "it is for kpoly, lp; crown reads none"),
    ("crown", "layers", "nonsense", "it is for alpha-crown; crown reads none"),
    ("crown", "group", 9, "it is for kpoly;"),
    ("crown", "seconds", 9, "it is for kpoly, lp, branch-and-bound,"),
    ("fastlip", "jacobians", "recurjac", "it is for lipschitz; fastlip reads none"),
    ("alpha-crown-full", "layers", "none", "does not read the option 'layers'"),
    ("milp", "iterations", 9, "milp reads seconds"),
    ("auto", "cuts", 1, "auto reads iterations, step, slopes, enough, layers"),
    ("crown", "go_on", 1, "no option 'go_on'"),
    ("alpha-crown", "speed", 1, "no option 'speed'; repair: one of iterations"),
    ("alpha-crown", "iterations", "abc", "iterations is 'abc'; it is a whole number from 1"),
    ("alpha-crown", "iterations", 2.5, "iterations is 2.5"),
    ("alpha-crown", "enough", "abc", "enough is 'abc'"),
    ("alpha-crown", "step", NAN, "step is nan"),
    ("alpha-crown", "step", INF, "step is inf"),
    ("auto", "layers", "nonsense", "it is none, layers or full; repair: layers=none"),
    ("auto", "slopes", "row", "slopes is 'row'"),
    ("lp", "cuts", -1, "cuts is -1"),
    ("kpoly", "group", 9, "group is 9; it is 2 or 3; repair: group=2"),
    ("lipschitz", "jacobians", "both", "jacobians is 'both'"),
    ("milp", "seconds", 0, "seconds is 0"),
]


@pytest.fixture
def factory(tmp_path: Path) -> str:
    """A MODEL of a small network."""
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        "def net():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))"
        ".eval()\n"
    )
    return f"{path}:net"


def certified(factory: str, method: str, **options: Any) -> phalanx.CertifyResult:
    x = phalanx.load_data("digits").images([0])
    return phalanx.certify(factory, x, method=method, eps=0.01, **DECLARED, **options)


def words(factory: str, method: str, name: str, text: str, out: Path) -> list[object]:
    declared = ["--input-range", 0, 1, "--classes", 10, "--normalised-inside"]
    asked = ["--method", method, "--eps", 0.01, "--set", f"{name}={text}"]
    return ["certify", factory, "--data", "digits", "--limit", 1, *declared, *asked, "--out", out]


@pytest.mark.parametrize(("method", "name", "value", "says"), REFUSED)
def test_refused_alike(
    method: str, name: str, value: Any, says: str, factory: str, tmp_path: Path, command: Callable
) -> None:
    with pytest.raises(ParameterError) as caught:
        certified(factory, method, **{name: value})
    assert says in str(caught.value)
    assert caught.value.repair
    text = yaml.safe_dump(value).split("\n")[0]
    code, said, log = command(*words(factory, method, name, text, tmp_path / "run"))
    assert (code, said) == (2, "")
    assert log.endswith(f"error: {caught.value}\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "says"), [("nan", "step is nan"), ("abc", "step is 'abc'"), ("true", "step is True")]
)
def test_texts_of_the_command_line(
    text: str, says: str, factory: str, tmp_path: Path, command: Callable
) -> None:
    code, _, log = command(*words(factory, "alpha-crown", "step", text, tmp_path / "run"))
    assert (code, says in log) == (2, True)


@pytest.mark.parametrize(("text", "value"), [("1e-1", 0.1), ("1/8", 0.125), ("1", 1)])
def test_numbers_that_are_texts_to_yaml(
    text: str, value: float, factory: str, tmp_path: Path, command: Callable
) -> None:
    code, _, _ = command(*words(factory, "alpha-crown", "step", text, tmp_path / "run"))
    assert code == 0
    with phalanx.RunStore.open(tmp_path / "run") as store:
        assert store.manifest.config["options"]["step"] == value


@pytest.mark.parametrize("method", ALL)
def test_every_method_takes_what_it_reads_and_nothing_else(method: str) -> None:
    others = {AUTO: methods.reads("alpha-crown"), **dict.fromkeys(engines.names(), ("seconds",))}
    read = others[method] if method in others else methods.reads(method)
    for name, value in DEFAULTS.items():
        if name in read:
            assert options_of(method, {name: value}) == Options()
        else:
            with pytest.raises(ParameterError, match=f"{method} does not read the option '{name}'"):
                options_of(method, {name: value})
    assert options_of(method, {}) == Options()


def test_auto_reads_what_any_of_its_methods_does() -> None:
    assert options_of("auto", {"iterations": 3, "layers": "full"}).iterations == 3


def test_an_alias_reads_what_its_method_does() -> None:
    assert options_of("k-relu", {"group": 3}).group == 3


@pytest.mark.parametrize("grid", grid_names())
def test_options_of_the_shipped_grids(grid: str) -> None:
    for one in load_grid(grid).methods.values():
        if one.method != "smoothing":
            assert options_of(one.method, one.options) == Options(**one.options)


def test_runs_from_before_there_was_no_callback_go_on(factory: str, tmp_path: Path) -> None:
    """Their configuration holds ``go_on``, which nobody could set."""
    certified(factory, "crown", out=tmp_path / "run")
    with phalanx.RunStore.open(tmp_path / "run") as store:
        asked = {**DEFAULTS, "go_on": None}
        assert store.manifest.config["options"] == asked
