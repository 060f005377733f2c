"""Every registered reducer, by being registered."""

import checks_reducers
import pytest

from phalanx.ensembles.ensemble import reducers


@pytest.mark.parametrize("check", checks_reducers.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", reducers.names())
def test_reducer(name, check):
    check(reducers.get(name))
