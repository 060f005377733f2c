"""Fixtures of every room: where the shared material is, and which tests need it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("PHALANX_SHARED", REPOSITORY.parent / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``shared`` say why they did not run instead of failing."""
    if SHARED.is_dir():
        return
    absent = pytest.mark.skip(reason=f"no shared material at {SHARED} (set PHALANX_SHARED)")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(absent)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published logs and data sets, only for tests marked ``shared``."""
    return SHARED
