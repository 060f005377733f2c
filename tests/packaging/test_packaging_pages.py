"""The code in the documentation runs, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/certificates.md",
    "docs/diagnostics.md",
    "docs/losses.md",
    "docs/runs.md",
)


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(repository: Path, page: str) -> None:
    path = repository / page
    links = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if not (path.parent / link).exists()]


def shell(script: str, folder: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_example_of_the_front_page_runs(repository: Path, tmp_path: Path) -> None:
    page = (repository / "README.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"^```\n(phalanx train.*?)^```", page, re.MULTILINE | re.DOTALL)
    shorter = commands.replace("--out members", "--epochs 2 --workers 1 --out members")
    shell(shorter.replace("--n 10000", "--n 100 --limit 13"), tmp_path)
    assert (tmp_path / "certified" / "report.html").is_file()
    (block,) = BLOCK.findall(page)
    (tmp_path / "notebook.py").write_text(block.replace("10_000", "100"))
    shell("python notebook.py", tmp_path)


def test_the_worked_examples_run(repository: Path, tmp_path: Path) -> None:
    blocks = BLOCK.findall((repository / "docs/architecture.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 4
    command = [sys.executable, "-W", "error", "-c", "\n".join(blocks)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
