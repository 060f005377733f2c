"""Every registered rule that uses a second law of noise, and mistakes in one."""

from __future__ import annotations

import checks_second_law as check
import numpy as np
import pytest

from phalanx.smoothing.double_sampling.boxes import Boxes, boxes_from_counts
from phalanx.smoothing.double_sampling.laws import SmallerVariance, Truncation
from phalanx.smoothing.radii import UsesSecondLaw, radii
from phalanx.smoothing.radii.double_sampling import DoubleSampling

RULES = [name for name, rule in radii.items() if isinstance(rule, UsesSecondLaw)]
FAST = "gaussian, smaller variance"


@pytest.mark.parametrize("laws", check.LAWS)
@pytest.mark.parametrize("name", RULES)
def test_second_law_rule(name, laws):
    check.never_beyond_a_known_set(radii.get(name), laws)
    check.never_below_neyman_pearson(radii.get(name), laws)


@pytest.mark.parametrize(
    "laws", [pytest.param(n, marks=[] if n == FAST else pytest.mark.slow) for n in check.LAWS]
)
@pytest.mark.parametrize("name", RULES)
def test_second_law_coverage(name, laws):
    check.coverage(radii.get(name), boxes_from_counts, laws)


def test_there_is_one():
    assert "double-sampling" in RULES


def unlucky(p_hits, p_trials, q_hits, q_trials, alpha, **options):
    """Shares of the votes instead of bounds."""
    p, q = np.asarray(p_hits) / p_trials, np.asarray(q_hits) / q_trials
    return Boxes(p, 1 + 0 * p, q, 1 + 0 * q)


BOXES = {
    "shares for bounds": unlucky,
    "five times alpha": lambda *a, **k: boxes_from_counts(*a[:4], 5 * a[4], **k),
    "votes of the second law for the first": lambda p, n, q, m, alpha, **k: boxes_from_counts(
        q * n // m, n, q, m, alpha, **k
    ),
}


@pytest.mark.parametrize("mistake", BOXES)
def test_mistakes_in_the_bounds_do_not_cover(mistake):
    with pytest.raises(AssertionError):
        check.coverage(DoubleSampling(), BOXES[mistake], FAST)


class Mistaken(DoubleSampling):
    """The rule, asked about another pair of laws than those that were drawn from."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.other = first, second

    def l2_radii(self, first, second, boxes):
        """Of the other pair."""
        return super().l2_radii(self.first(first), self.other(second), boxes)


def same(law):
    """As it is."""
    return law


RULES_OF = {
    "a narrower second law": Mistaken(same, lambda q: SmallerVariance(0.9 * q.sigma)),
    "a truncated second law": Mistaken(same, lambda _: Truncation(0.5)),
    "a larger order": Mistaken(lambda p: type(p)(p.d, p.k + 3, p.sigma), same),
    "a larger sigma": Mistaken(lambda p: type(p)(p.d, p.k, 1.01 * p.sigma), same),
}


@pytest.mark.parametrize("mistake", RULES_OF)
def test_mistakes_in_the_laws_exceed_a_known_set(mistake):
    with pytest.raises(AssertionError):
        check.never_beyond_a_known_set(RULES_OF[mistake], FAST)
