"""``pytest -p planted_plugin``: register the planted parts before tests are collected."""

import planted
import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Called once, before the harness asks the registries what there is."""
    planted.plant()
