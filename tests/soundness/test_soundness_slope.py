"""The gradient certificate: its bound covers, its radius holds, and what is unsound is seen."""

from __future__ import annotations

import math

import checks_slope
import planted
import pytest

from phalanx.smoothing.higher_order.radius import GradientRadius
from phalanx.smoothing.higher_order.slope import slope_upper


@pytest.mark.parametrize("d", checks_slope.DIMENSIONS)
@pytest.mark.parametrize("world", checks_slope.WORLDS)
def test_slope_bound_covers(world, d):
    checks_slope.slope_coverage(slope_upper, checks_slope.WORLDS[world], d)


@pytest.mark.parametrize("d", checks_slope.DIMENSIONS)
def test_both_bounds_together_cover(d):
    checks_slope.gradient_coverage(slope_upper, GradientRadius, d)


def test_radius_holds_for_real_voters():
    checks_slope.never_beyond_a_real_voter(GradientRadius)
    checks_slope.tight_for_slabs(GradientRadius)


@pytest.mark.parametrize("bound", [planted.plugged_in_slope, planted.slope_without_noise])
def test_estimates_are_no_bounds(bound):
    with pytest.raises(AssertionError):
        checks_slope.slope_coverage(bound, checks_slope.WORLDS["half space"], 40)


def test_an_estimate_of_the_slope_does_not_cover_together_with_p():
    with pytest.raises(AssertionError):
        checks_slope.gradient_coverage(planted.plugged_in_slope, GradientRadius, 784)


WRONG_RULES = {
    "slope-halved": lambda slope: GradientRadius(slope / 2),
    "slope-ignored": lambda slope: GradientRadius(0.0),
    "slope-in-other-units": lambda slope: GradientRadius(slope / math.sqrt(2 * math.pi)),
}


@pytest.mark.parametrize("rule", WRONG_RULES)
@pytest.mark.parametrize(
    "check", [checks_slope.never_beyond_a_real_voter, checks_slope.tight_for_slabs]
)
def test_mistakes_in_the_slope_exceed_the_radius(rule, check):
    with pytest.raises(AssertionError):
        check(WRONG_RULES[rule])
