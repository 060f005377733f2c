"""Every registered network, by being registered."""

import checks_networks
import pytest
import torch

from phalanx.models.build import networks


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Batches of four are too small to share; threads would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=networks.names())
def model(request):
    """Built once; the checks leave it as it was, and one of them makes sure of that."""
    return checks_networks.built(request.param)


@pytest.mark.parametrize("check", checks_networks.CHECKS, ids=lambda check: check.__name__)
def test_network(model, check):
    check(model)
