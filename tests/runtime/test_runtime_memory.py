"""Freed memory is kept: by every command, and so that it shows."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from phalanx.cli import main as command

ASKS = """
import resource, sys
from phalanx.runtime.memory import keep_freed_pages
kept = sys.argv[1] == "keep" and keep_freed_pages()
import torch
torch.set_num_threads(1)
def use():
    torch.empty(1 << 24).fill_(1.0)
for _ in range(30):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep pages")
def test_a_freed_block_is_used_again_without_asking_the_system() -> None:
    """Of 64 MiB, above what glibc's thresholds can be raised to."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", ASKS, how],
                check=True,
                capture_output=True,
                text=True,
                env=clean,
            ).stdout
        )
        for how in ("keep", "as it is")
    }
    assert faults["keep"] * 10 < faults["as it is"]


def test_every_command_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(command, "keep_freed_pages", lambda: asked.append(True))
    monkeypatch.setattr(sys, "argv", ["phalanx", "--version"])
    with pytest.raises(SystemExit):
        command.main()
    assert asked
