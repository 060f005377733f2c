"""The side of `run.py` that runs inside pytest (``-p mutant_plugin``).

With ``MUTANT_RECORD`` it writes down which lines of the source each test runs, and for how long.
With ``MUTANT_ORDER`` it runs the tests listed there alone, in that order. It imports
``MUTANT_MODULE`` before anything else and says so: where that fails the mutant is no program.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

IMPORTED = "the mutant was imported"

Line = tuple[str, int]


class Recorder:
    """Lines and seconds of each test; what a fixture runs counts for every test that uses it."""

    def __init__(self, out: Path, source: Path) -> None:
        self.out, self.source = out, f"{source}{os.sep}"
        self.seconds: dict[str, float] = defaultdict(float)
        self.lines: dict[str, set[Line]] = {}
        self.fixtures: dict[str, set[Line]] = defaultdict(set)
        self.current: set[Line] = set()
        self.locals: dict[str, Callable[..., Any] | None] = {}
        self.names: dict[str, tuple[str, ...]] = {}

    def trace(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        """Follow functions of the source alone."""
        name = frame.f_code.co_filename
        if name not in self.locals:
            inside = name.startswith(self.source)
            file = name[len(self.source) :].replace(os.sep, "/")
            self.locals[name] = self._follow(file) if inside else None
        return self.locals[name]

    def _follow(self, file: str) -> Callable[..., Any]:
        def line(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            if event == "line":
                self.current.add((file, frame.f_lineno))
            return line

        return line

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Trace one test."""
        self.current = self.lines[item.nodeid] = set()
        self.names[item.nodeid] = tuple(getattr(item, "fixturenames", ()))
        start = time.perf_counter()
        threading.settrace(self.trace)
        sys.settrace(self.trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            self.seconds[item.nodeid] = time.perf_counter() - start

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        """Trace a fixture."""
        test, self.current = self.current, self.fixtures[fixturedef.argname]
        try:
            return (yield)
        finally:
            self.current = test

    def pytest_sessionfinish(self) -> None:
        """Write everything down."""
        found = {}
        for test, lines in self.lines.items():
            every = lines.union(*(self.fixtures[name] for name in self.names[test]))
            files = defaultdict(list)
            for file, line in sorted(every):
                files[file].append(line)
            found[test] = {"seconds": self.seconds[test], "lines": files}
        self.out.write_text(json.dumps(found))


class Chosen:
    """Runs some of the tests, in a given order."""

    def __init__(self, order: Path) -> None:
        self.place = {test: i for i, test in enumerate(json.loads(order.read_text()))}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep and order."""
        kept = [item for item in items if item.nodeid in self.place]
        items[:] = sorted(kept, key=lambda item: self.place[item.nodeid])


def pytest_configure(config: pytest.Config) -> None:
    """Record or choose, as the environment says."""
    if record := os.environ.get("MUTANT_RECORD"):
        config.pluginmanager.register(Recorder(Path(record), Path(os.environ["MUTANT_SOURCE"])))
    if order := os.environ.get("MUTANT_ORDER"):
        config.pluginmanager.register(Chosen(Path(order)))


if module := os.environ.get("MUTANT_MODULE"):
    importlib.import_module(module)
    sys.stderr.write(f"{IMPORTED}\n")
