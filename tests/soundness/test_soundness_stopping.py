"""Every registered stopping rule, by being registered."""

import checks_stopping
import pytest

from phalanx.smoothing.stopping import rules


@pytest.mark.parametrize("check", checks_stopping.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", rules.names())
def test_rule(name, check):
    check(rules.get(name))
