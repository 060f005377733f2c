"""Every registered rule that uses a second law of noise, and mistakes in one."""

from __future__ import annotations

import checks_second_law as check
import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from phalanx.models.model import InputSpec, Model
from phalanx.noise.distributions import noise_of
from phalanx.runs.schema import SECOND_LAW
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.double_sampling.boxes import Boxes, boxes_from_counts
from phalanx.smoothing.double_sampling.laws import SmallerVariance, Truncation
from phalanx.smoothing.double_sampling.split import SplitSampling
from phalanx.smoothing.engine import Engine, Work
from phalanx.smoothing.radii import UsesSecondLaw, radii
from phalanx.smoothing.radii.double_sampling import DoubleSampling
from phalanx.smoothing.stopping import Setting
from phalanx.smoothing.two_laws import KINDS, TwoLaws, certify_two_laws

RULES = [name for name, rule in radii.items() if isinstance(rule, UsesSecondLaw)]
RUNS, N, ALPHA = 300, 300, 0.1
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


def halfspace(distance, values):
    """Class 1 up to a plane at that distance from the origin, across all coordinates alike."""
    network = nn.Linear(values, 2)
    with torch.no_grad():
        network.weight.copy_(torch.stack([torch.ones(values), torch.zeros(values)]) / values**0.5)
        network.bias.copy_(torch.tensor([-distance, 0.0]))
    return Model(network.eval(), InputSpec((-1.0, 1.0), shape=(values,)), 2)


def runs_of(laws, distance, first=0):
    """Evidence of independent runs at the origin, by the engine's own noise, keys and rule."""
    bound, x = bounds.get("clopper-pearson"), torch.zeros(laws.dimension)
    rule = SplitSampling(Setting(N, 10, N, ALPHA, bound), lambda: (N // 2,))
    engine = Engine(
        MemberBank([halfspace(distance, laws.dimension)], Layout(), torch.device("cpu")),
        classifiers_of(1),
        noise_of(laws.noise, laws.sigma, laws.order),
        seed=0,
        batch=1000,
        generator="philox4x64",
        other_noise={SECOND_LAW: laws.second_noise},
    )
    images = range(first, first + RUNS)
    works = (Work(image, chunk, x) for image in images for chunk in rule.decide({}))
    votes = {image: {} for image in images}
    for counted in engine.run(lambda: next(works, None)):
        votes[counted.image][counted.chunk.phase] = [counted.counts[0]]
    return [rule.decide(found) for found in votes.values()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("noise", "order"),
    [("gaussian", None), pytest.param("generalised-gaussian", 4, marks=pytest.mark.slow)],
)
def test_the_engine_draws_from_both_laws_and_certifies_at_its_level(noise, order, kind):
    laws = TwoLaws(noise, order, 0.5, 16, kind)
    world = check.half_space(laws.first, laws.second, 0.9)
    found = runs_of(laws, world.distance)
    n = N // 2
    for hits, p in (
        (sum(one.n_a for one in found), world.p),
        (sum(one.second.hits for one in found), world.q),
    ):
        total = n * len(found)
        assert abs(hits - total * p) < 4.5 * (total * p * (1 - p)) ** 0.5
    proven = certify_two_laws(found, laws, DoubleSampling(noise, order), alpha=ALPHA)
    wrong = sum(one.predicted == 0 or (one.radius or 0) > world.distance for one in proven)
    assert wrong <= binom.isf(1 / 30_000, RUNS, ALPHA)
    assert sum(one.radius > 0.5 * world.distance for one in proven) > RUNS / 2


def test_planted_the_second_law_drawn_from_the_first_is_noticed(monkeypatch):
    first = property(lambda laws: noise_of(laws.noise, laws.sigma, laws.order))
    monkeypatch.setattr(TwoLaws, "second_noise", first)
    with pytest.raises(AssertionError):
        test_the_engine_draws_from_both_laws_and_certifies_at_its_level(
            "generalised-gaussian", 4, "smaller-variance"
        )
