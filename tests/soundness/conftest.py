"""Assertions inside the shared checks are reported like those of a test."""

import pytest

pytest.register_assert_rewrite("checks_bounds", "checks_networks", "checks_reducers")
