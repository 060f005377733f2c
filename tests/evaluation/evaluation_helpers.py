"""Requests carried out, to the end or until a process would have died."""

from __future__ import annotations

from pathlib import Path

import pytest

from phalanx.evaluation.certify import Sweep
from phalanx.evaluation.request import Request, open_run, settle
from phalanx.runs.store import RunStore


class Killed(Exception):
    """Stands for a process that dies between two commits."""


def certified(request: Request, out: Path | None = None) -> RunStore:
    """The run of a request, finished."""
    request, store = open_run(settle(request, out), out, command="test")
    Sweep(request, store).run()
    return store


def killed(request: Request, out: Path, after: int) -> None:
    """Carry a request out, and die when progress is told for the ``after``-th time."""
    request = settle(request, out)
    calls = 0

    def die(rows: int, images: int) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise Killed

    with open_run(request, out, command="test")[1] as store, pytest.raises(Killed):
        Sweep(request, store, die).run()
