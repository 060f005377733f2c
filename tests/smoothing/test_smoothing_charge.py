"""What lattice noise takes off bounds and radii: never less than it says."""

from fractions import Fraction

import numpy as np
import pytest

from phalanx.smoothing.charge import FREE, Charge, Charged
from phalanx.smoothing.radii.neyman_pearson import NeymanPearson

PROBABILITIES = (1e-17, 3e-16, 1e-9, 0.1, *np.random.default_rng(0).uniform(0, 1e-6, 50))


@pytest.mark.parametrize("probability", PROBABILITIES)
def test_sums_and_differences_err_on_the_safe_side(probability):
    """Against exact arithmetic: the threshold and an upper bound from above, a lower from below."""
    charge, rule = Charge(probability), NeymanPearson()
    charged, exact = Charged(rule, charge), Fraction(float(probability))
    assert Fraction(charged.threshold) >= Fraction(rule.threshold) + exact
    assert charged.threshold <= rule.threshold + probability + 1e-15
    for p in (0.3, 0.7, 0.9999):
        assert Fraction(charge.lower(p)) <= Fraction(p) - exact
        assert Fraction(charge.upper(p)) >= min(Fraction(1), Fraction(p) + exact)


def test_a_charged_rule_certifies_nothing_up_to_its_threshold():
    charged = Charged(NeymanPearson(), Charge(0.01, 0.25))
    assert charged.radius(charged.threshold, 1.0) == 0.0
    free = NeymanPearson().radius(0.9 - 0.01, 1.0)
    assert charged.radius(0.9, 1.0) == pytest.approx(free - 0.25)
    assert charged.radius(0.9, 1.0) < free - 0.25 + 1e-12


def test_without_a_charge_nothing_changes():
    rule = NeymanPearson()
    charged = Charged(rule, FREE)
    assert charged.threshold == rule.threshold
    assert charged.radius(0.9, 0.5) == rule.radius(0.9, 0.5)
