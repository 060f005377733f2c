"""The front door: versions agree, imports are light, every command explains itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

import phalanx
from phalanx.cli.main import build
from phalanx.data import locate

EVERY_MODULE = """
import importlib.util, pkgutil, phalanx
for module in pkgutil.walk_packages(phalanx.__path__, "phalanx."):
    if module.name != "phalanx.noise.philox_triton" or importlib.util.find_spec("triton"):
        importlib.import_module(module.name)
"""
LIGHT = """
import importlib, pkgutil, sys
import phalanx
for room in ("runs", "reporting"):
    package = importlib.import_module(f"phalanx.{room}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
from phalanx.cli.main import build
build()
print(sorted({"torch", "sklearn", "safetensors"} & set(sys.modules)))
"""


def python(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_version_is_the_same_everywhere(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((repository / "CITATION.cff").read_text())
    assert phalanx.__version__ == project["version"] == citation["version"]
    assert citation["license"] == project["license"]


def test_the_changelog_speaks_of_what_is_unreleased(repository: Path) -> None:
    headings = re.findall(r"^## (.+)$", (repository / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"


def test_phalanx_version() -> None:
    command = [sys.executable, "-m", "phalanx.cli.main", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, phalanx.__version__)


def test_the_public_names_are_listed_and_there() -> None:
    assert dir(phalanx) == sorted(phalanx.__all__)
    assert phalanx.load_data is locate.load
    assert all(getattr(phalanx, name) is not None for name in dir(phalanx))
    with pytest.raises(AttributeError, match="'absent'"):
        _ = phalanx.absent
    assert dir(phalanx.bounds) == sorted(phalanx.bounds.__all__)


def test_listing_the_public_names_imports_nothing() -> None:
    code = "import sys, phalanx; dir(phalanx); print('torch' in sys.modules)"
    assert python(code) == "False"


def test_reading_runs_and_asking_for_help_needs_no_torch() -> None:
    assert python(LIGHT) == "[]"


def test_every_module_imports_without_a_warning() -> None:
    python(EVERY_MODULE)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of a command and of everything below it."""
    yield path
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from commands(child, (*path, name))


APP = build()


@pytest.mark.parametrize("path", list(commands(typer.main.get_command(APP))), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(APP, [*path, "--help"])
    assert done.exit_code == 0, done.output
    assert "Usage" in done.output


def test_constraints_carry_no_local_version(repository: Path) -> None:
    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", pin) for pin in pins)


def test_constraints_pin_everything_the_project_names(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["images"], *extras["frames"], *extras["dev"]]
    wanted = {re.split(r"[\[>=<]", line)[0].lower() for line in named} - {"phalanx"}
    lines = (repository / "constraints.txt").read_text().lower().splitlines()
    assert wanted <= {line.split("==")[0] for line in lines}
