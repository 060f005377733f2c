"""Every registered confidence bound and radius rule, by being registered."""

import checks_bounds
import pytest

from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.radii import radii


@pytest.mark.parametrize("check", checks_bounds.BOUND_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", bounds.names())
def test_bound(name, check):
    check(bounds.get(name))


@pytest.mark.parametrize("check", checks_bounds.RADIUS_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", radii.names())
def test_radius_rule(name, check):
    check(radii.get(name))
