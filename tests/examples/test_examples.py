"""The pages of examples/ run from beginning to end, small."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = {
    "certify_my_model.py": ["--images", "5", "--n", "200"],
    "compare_ensemble.py": ["--images", "5", "--n", "200", "--epochs", "3"],
}


def run(path: Path, arguments: list[str], folder: Path) -> str:
    command = [sys.executable, "-W", "error", str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run(repository: Path) -> None:
    assert {path.name for path in (repository / "examples").glob("*.py")} == set(SMALL)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_example_runs(repository: Path, tmp_path: Path, name: str) -> None:
    output = run(repository / "examples" / name, SMALL[name], tmp_path)
    assert re.search(r"\d\.\d", output)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_example_is_a_notebook(repository: Path, name: str) -> None:
    cells = (repository / "examples" / name).read_text(encoding="utf-8").split("# %%")
    prose = [cell for cell in cells if cell.startswith(" [markdown]")]
    assert cells[0] == ""
    assert prose[0].splitlines()[1].startswith("# # ")
    assert all(line.startswith("#") for cell in prose for line in cell.splitlines()[1:] if line)
