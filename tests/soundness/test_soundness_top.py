"""How often a top-k certificate of the engine is wrong, for a classifier whose truth is known.

Classes are stripes of the plane, so every probability is a difference of two normal ones, and the
first shift at which the label is no longer among the k most likely is found by trying all.
"""

from __future__ import annotations

from functools import cache

import checks_coverage as check
import numpy as np
import pytest
import torch
from scipy.special import ndtr
from torch import nn

from phalanx.models.model import InputSpec, Model
from phalanx.smoothing.certificate import certify_rule
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.radii import among
from phalanx.smoothing.radii.neyman_pearson import NeymanPearson
from phalanx.smoothing.stopping import fixed_evidence

CENTRES = np.array([-1.0, 0.9, 1.0, 1.1, 1.2, 1.3])
LABEL, ALPHA, RUNS = 0, 0.01, 2_000
RULE, BOUND = NeymanPearson(), bounds.get("clopper-pearson")

pytestmark = pytest.mark.usefixtures("one_thread")


def stripes() -> Model:
    """The class whose centre is nearest along the normal: ``2 c u - c^2`` is largest for it."""
    network = nn.Linear(2, len(CENTRES))
    with torch.no_grad():
        centres = torch.from_numpy(CENTRES).float()
        network.weight.copy_(2 * centres[:, None] * torch.tensor([check.NORMAL]))
        network.bias.copy_(-(centres**2))
    return Model(network.eval(), InputSpec((-1.0, 1.0), shape=(2,)), len(CENTRES))


def probabilities(shift: np.ndarray) -> np.ndarray:
    """Of every class at each shift along the normal, ``(classes, shifts)``."""
    cuts = np.concatenate([[-np.inf], (CENTRES[1:] + CENTRES[:-1]) / 2, [np.inf]])
    return np.diff(ndtr((cuts[:, None] - shift) / check.SIGMA), axis=0)


@cache
def true_radius(k: int) -> float:
    """The smallest shift, either way, at which k others are as likely as the label."""
    steps = np.linspace(0, 3, 300_001)
    lost = np.zeros(len(steps), bool)
    for shift in (steps, -steps):
        p = probabilities(shift)
        lost |= (np.delete(p, LABEL, axis=0) >= p[LABEL]).sum(0) >= k
    assert lost.any()
    return float(steps[np.argmax(lost)])


def certified(run: check.Votes, k: int, runner_up: float, label: int) -> float:
    """The radius of the package for a class that is named before any vote; 0 where it abstains."""
    shares = {"runner_up": runner_up, "classes": len(CENTRES), "top": k}
    found = fixed_evidence({label: 1}, check.total(run.estimation), BOUND, ALPHA, **shares)
    return certify_rule(found, among(RULE, k), sigma=check.SIGMA, alpha=ALPHA).radius or 0.0


@pytest.fixture(scope="module")
def runs():
    return list(check.votes(stripes(), RUNS))


def test_the_truth_is_the_networks_own():
    noise = check.SIGMA * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(1))
    shares = torch.bincount(stripes()(noise).argmax(1), minlength=len(CENTRES)) / len(noise)
    assert shares.numpy() == pytest.approx(probabilities(np.zeros(1))[:, 0], abs=5e-3)


@pytest.mark.parametrize(
    ("k", "runner_up", "typical"),
    [(1, 0.0, 0), (1, 0.5, 0), (2, 0.0, 0.1), (2, 0.5, 0.4), (4, 0.0, 0.3), (4, 0.5, 0.5)],
)
def test_certificates_are_wrong_as_rarely_as_alpha_says(runs, k, runner_up, typical):
    """The label is second; most of what is true of it is certified where rivals are bounded."""
    radii = np.array([certified(run, k, runner_up, LABEL) for run in runs])
    assert (radii > true_radius(k)).sum() <= check.most_failures(RUNS, ALPHA)
    assert typical <= np.median(radii) <= true_radius(k)


def test_bounds_are_wrong_as_rarely_as_alpha_says(runs):
    """The statement behind the radius, whose truth leaves no slack: all bounds at once."""
    p = probabilities(np.zeros(1))[:, 0]
    for k in (1, 3):
        exact, wrong = np.cumsum(np.sort(np.delete(p, LABEL))[-k:]), 0
        for run in runs:
            shares = {"runner_up": 0.5, "classes": len(CENTRES), "top": k}
            found = fixed_evidence({LABEL: 1}, check.total(run.estimation), BOUND, ALPHA, **shares)
            wrong += found.p_lower > p[LABEL] or any(np.array(found.others) < exact)
        assert wrong <= check.most_failures(RUNS, ALPHA)


def test_a_class_chosen_by_the_votes_that_test_it_is_no_fixed_one():
    """Four classes with a quarter each: none has more, and the luckiest seems to."""
    rng, floor, wrong = np.random.default_rng(0), 0.25, {"fixed": 0, "chosen": 0}
    for votes in rng.multinomial(1000, [floor] * 4, size=20_000):
        wrong["fixed"] += BOUND.lower(int(votes[0]), 1000, ALPHA) > floor
        wrong["chosen"] += BOUND.lower(int(votes.max()), 1000, ALPHA) > floor
    assert wrong["fixed"] <= check.most_failures(20_000, ALPHA)
    assert wrong["chosen"] > 2 * check.most_failures(20_000, ALPHA)
