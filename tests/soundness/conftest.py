"""Assertions inside the shared checks are reported like those of a test."""

import pytest
import torch

pytest.register_assert_rewrite(
    "checks_attacks", "checks_bounds", "checks_coverage", "checks_networks", "checks_reducers"
)


@pytest.fixture
def one_thread():
    """Batches this small are not worth sharing; threads would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
