"""The code in the documentation runs, and its links lead somewhere."""

from __future__ import annotations

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
    "docs/runs.md",
)


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(repository: Path, page: str) -> None:
    path = repository / page
    links = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if not (path.parent / link).exists()]


def test_the_worked_examples_run(repository: Path, tmp_path: Path) -> None:
    blocks = BLOCK.findall((repository / "docs/architecture.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 4
    command = [sys.executable, "-W", "error", "-c", "\n".join(blocks)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
