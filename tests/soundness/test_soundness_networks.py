"""Every registered network, by being registered."""

import checks_networks
import pytest

from phalanx.models.build import networks


@pytest.mark.parametrize("check", checks_networks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", networks.names())
def test_network(name, check):
    check(checks_networks.built(name))
