"""What `run.py` mutates, and copies of it in which mutants are planted and tests run."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from mutant_plugin import IMPORTED
from operators import Mutant, mutants_of

HERE = Path(__file__).resolve().parent
COPIED = ("src", "tests", "benchmarks", "examples", "docs")
LARGEST_FILE = 1 << 20
"""Bytes of a file beside these folders that is copied as well."""

PATIENCE = (1, 4)
"""What is slow because the machine is busy is asked again with this many times the time limit."""

CAUGHT, TIMEOUT, SURVIVED, NO_PROGRAM = "caught", "timeout", "survived", "no program"
Record = dict[str, Any]
Coverage = dict[str, dict[str, Any]]
"""Of each test: ``seconds``, and ``lines`` of each file it runs."""


@dataclass(frozen=True)
class Project:
    """What is mutated and what has to notice.

    Attributes:
        root: of the repository; ``src/PACKAGE`` lies in it.
        rooms: folders or modules of the package.
        tests: arguments for pytest, relative to the root.
    """

    root: Path
    package: str
    rooms: tuple[str, ...]
    tests: tuple[str, ...]

    def mutants(self) -> dict[str, list[Mutant]]:
        """By module, all there are."""
        source, found = self.root / "src", {}
        for room in self.rooms:
            place = source / self.package / room
            for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
                found[path.relative_to(source).as_posix()] = mutants_of(path, source)
        return found

    def texts(self) -> dict[str, str]:
        """Source and tests, by their place below the root."""
        return {
            path.relative_to(self.root).as_posix(): path.read_text(encoding="utf-8")
            for name in ("src", "tests")
            for path in sorted((self.root / name).rglob("*.py"))
        }

    def test_digests(self) -> dict[str, str]:
        """Of each file of tests, with everything that decides what it runs."""
        texts = {name: text.encode() for name, text in self.texts().items()}
        alone = {name for name in texts if Path(name).name.startswith("test_")}
        shared = (name.encode() + text for name, text in texts.items() if name not in alone)
        common = _of_all(shared)
        return {
            name: _of_all([common, text]).hex()
            for name, text in texts.items()
            if (name in alone or name.startswith("src/"))
            and any(Path(name).is_relative_to(place) for place in self.tests)
        }

    def digest(self) -> str:
        """Of everything that decides what is caught."""
        return _of_all(f"{k} {v}".encode() for k, v in self.test_digests().items()).hex()


def _of_all(parts: Iterable[bytes]) -> bytes:
    digest = blake2b(platform.python_version().encode(), digest_size=8)
    for part in parts:
        digest.update(blake2b(part).digest())
    return digest.digest()


class Copy:
    """A copy of the project in which mutants are planted, one after the other."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project, self.root = project, folder
        kept = shutil.ignore_patterns("__pycache__", "*.pyc")
        for name in COPIED:
            if (project.root / name).is_dir():
                shutil.copytree(project.root / name, folder / name, ignore=kept)
        for path in project.root.iterdir():
            if path.is_file() and path.stat().st_size <= LARGEST_FILE:
                shutil.copy2(path, folder)

    def pytest(
        self, arguments: Sequence[str], limit: float | None = None, **environment: str
    ) -> tuple[int | None, str]:
        """Exit code (None: it was stopped after ``limit`` seconds) and what it said."""
        paths = [str(self.root / "src"), str(HERE)]
        shared = self.project.root.parent / "shared"
        fixed = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"}
        defaults = {"OMP_NUM_THREADS": "1", "PHALANX_SHARED": str(shared)}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["--rootdir", ".", "-p", "mutant_plugin", "-m", "not slow", *arguments]
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env={**defaults, **os.environ, **fixed, **environment},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            said.seek(0)
            return code, said.read()

    def record(self, files: Sequence[str]) -> Coverage:
        """What the tests of some files run, unchanged."""
        out = self.root / "coverage.json"
        source = str((self.root / "src").resolve())
        code, said = self.pytest(files, MUTANT_RECORD=str(out), MUTANT_SOURCE=source)
        if code not in (0, 5):  # 5: none of them is quick
            raise SystemExit(f"the tests fail without any mutant:\n{said[-3000:]}")
        found: Coverage = json.loads(out.read_text())
        return found

    def ask(self, mutant: Mutant, tests: Sequence[str], coverage: Coverage) -> Record:
        """Plant a mutant and run the tests."""
        path = self.root / "src" / mutant.file
        order = self.root / "order.json"
        order.write_text(json.dumps(tests))
        seconds = [coverage[test]["seconds"] for test in tests]
        slowest, total = 30 + 5 * max(seconds), 60 + 5 * sum(seconds)
        files = list(dict.fromkeys(test.split("::")[0] for test in tests))
        _forget(path)
        path.write_text(mutant.changed, encoding="utf-8")
        try:
            for patience in PATIENCE:
                code, said = self.pytest(
                    ["-x", f"--timeout={int(patience * slowest)}", *files],
                    patience * total,
                    MUTANT_ORDER=str(order),
                    MUTANT_MODULE=mutant.file.removesuffix(".py").replace("/", "."),
                )
                status = _status(code, said)
                if status != TIMEOUT:
                    break
        finally:
            path.write_text(mutant.source, encoding="utf-8")
            _forget(path)
        return {"status": status, "by": _failed(said), "tests": len(tests)}


def _forget(path: Path) -> None:
    """Compiled code is told from other compiled code by size and second alone."""
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def _status(code: int | None, said: str) -> str:
    if code is None:
        return CAUGHT if _failed(said) and "Failed: Timeout" not in said else TIMEOUT
    if IMPORTED not in said:
        return NO_PROGRAM
    if code == 5:
        raise SystemExit(f"none of the tests were collected:\n{said[-3000:]}")
    if code == 0:
        return SURVIVED
    return TIMEOUT if "Failed: Timeout" in said else CAUGHT


def _failed(said: str) -> str:
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    return found[1] if found else ""
