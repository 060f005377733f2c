"""The wheel: built from the tree, complete, and at work outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

SKIPPED_SUFFIXES = {".pyc", ".pyo"}


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the repository by the backend that pyproject names."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*build, str(repository)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("phalanx-*.whl")
    return path


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked into an empty folder, as an installer would."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_outside(site: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


def test_every_file_of_the_package_is_inside(repository: Path, wheel: Path) -> None:
    source = repository / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / "phalanx").rglob("*")
        if path.is_file() and path.suffix not in SKIPPED_SUFFIXES
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected
    assert "phalanx/py.typed" in packed


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        metadata = Parser().parsestr(archive.read(names["METADATA"]).decode())
        entry_points = archive.read(names["entry_points.txt"]).decode()
        assert "LICENSE" in names
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    extras = set(metadata.get_all("Provides-Extra", []))
    assert extras >= {"images", "frames", "onnx", "milp", "smt", "scale", "vision", "attacks"}
    assert "phalanx = phalanx.cli.main:main" in entry_points
    requirements = metadata.get_all("Requires-Dist", [])
    assert not [line for line in requirements if "+cpu" in line or "file:" in line]


def test_the_wheel_is_what_runs_outside(elsewhere: Path, tmp_path: Path) -> None:
    done = run_outside(elsewhere, "-c", "import phalanx; print(phalanx.__file__)", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(elsewhere)


def test_the_wheel_finds_its_data(elsewhere: Path, tmp_path: Path) -> None:
    done = run_outside(elsewhere, "-m", "phalanx.cli.main", "list", "recipes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "digits-gaussian" in done.stdout


@pytest.mark.slow
def test_the_wheel_runs_the_demo(elsewhere: Path, tmp_path: Path) -> None:
    done = run_outside(elsewhere, "-m", "phalanx.cli.main", "demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("report.html"))
