"""The test of the coverage gate: five statistical misuses, planted one by one, turn it red.

Each is a mistake that tools in the field make. Where the mistake is in the noise keys, the
engine itself runs with the wrong keys; otherwise its honest votes are misread.
"""

from __future__ import annotations

import random

import checks_coverage as check
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from phalanx.errors import ModelError
from phalanx.models.model import InputSpec, Model
from phalanx.models.validate import probe
from phalanx.runtime.keys import noise_key
from phalanx.smoothing import engine

ALPHA, RUNS = 0.01, 2_000

pytestmark = pytest.mark.usefixtures("one_thread")


def keyed_by(monkeypatch, key):
    """Run the engine with another ``key(seed, image, phase, chunk)``."""
    monkeypatch.setattr(engine, "noise_key", key)


def is_red(outcomes, radius):
    outcomes = list(outcomes)
    return check.failures(outcomes, radius) > check.most_failures(len(outcomes), ALPHA)


def green_as_it_should_be(p, **shape):
    """The gate on the same runs without the mistake."""
    honest = (check.certified(run, ALPHA) for run in check.votes(check.halfspace(p), RUNS, **shape))
    return not is_red(honest, check.true_radius(p))


def test_one_seed_for_every_chunk(monkeypatch):
    """Two workers of one seed: n samples are counted and n / 2 were drawn."""
    p = 0.6
    assert green_as_it_should_be(p)
    keyed_by(monkeypatch, lambda seed, image, phase, chunk: noise_key(seed, image, phase, 0))
    runs = list(check.votes(check.halfspace(p), RUNS))
    assert is_red((check.certified(run, ALPHA) for run in runs), check.true_radius(p))
    assert check.dispersion(runs, p) > check.MOST_DISPERSION


def test_one_seed_for_every_image(monkeypatch):
    """Each certificate alone is as good as ever; together they are one, counted many times."""
    p = 0.6
    keyed_by(monkeypatch, lambda seed, image, phase, chunk: noise_key(seed, 0, phase, chunk))
    assert check.dispersion(list(check.votes(check.halfspace(p), RUNS)), p) < (
        -check.MOST_DISPERSION
    )


@pytest.mark.slow
def test_selection_samples_that_estimate_as_well(monkeypatch):
    """Of two classes as likely, the luckier one is chosen, and then tested on its luck."""
    p, shape = check.PROBABILITIES[0], {"n": 250, "n0": 250, "chunk": 250}
    assert green_as_it_should_be(p, **shape)
    keyed_by(monkeypatch, lambda seed, image, phase, chunk: noise_key(seed, image, "", chunk))
    runs = check.votes(check.halfspace(p), 10_000, **shape)
    reused = (check.certified(run, ALPHA) for run in runs)
    assert is_red(reused, check.true_radius(p))


@pytest.mark.slow
def test_peeking():
    """Look after every chunk and stop at the best: ten chances instead of one."""
    p, shape = 0.6, {"n": 500, "chunk": 50}

    def best_of_all_looks(run):
        looks = (
            check.certified(run._replace(estimation=run.estimation[:seen]), ALPHA)
            for seen in range(1, len(run.estimation) + 1)
        )
        return max(looks, key=lambda outcome: outcome.radius)

    runs = list(check.votes(check.halfspace(p), RUNS, **shape))
    assert not is_red((check.certified(run, ALPHA) for run in runs), check.true_radius(p))
    assert is_red(map(best_of_all_looks, runs), check.true_radius(p))


def test_a_chunk_counted_again_after_resuming():
    """Half of the votes count twice, as if they had been drawn twice."""
    p = 0.6

    def doubled(run):
        twice = [*run.estimation, run.estimation[0]]
        return check.certified(run._replace(estimation=twice), ALPHA)

    runs = check.votes(check.halfspace(p), RUNS)
    assert is_red(map(doubled, runs), check.true_radius(p))


MEMBERS = (0.9, 0.9, 0.5)
"""Probabilities of the right class under three members."""


def mixture_radius():
    """Where the mean over members of the smoothed probability falls to one half."""
    distances = norm.ppf(MEMBERS)
    return check.SIGMA * brentq(lambda t: norm.cdf(distances - t).mean() - 0.5, 0, 5)


def test_a_member_drawn_once_per_call():
    """The certificate is that of whoever was drawn, and the ensemble that answers is another."""
    per_member = [list(check.votes(check.halfspace(p), 300)) for p in MEMBERS]
    draw = random.Random(0)
    outcomes = [check.certified(draw.choice(runs), ALPHA) for runs in zip(*per_member, strict=True)]
    wrong = check.failures(outcomes, mixture_radius())
    assert is_red(outcomes, mixture_radius())
    assert wrong / len(outcomes) == pytest.approx(2 / 3, abs=0.1)


def test_a_member_drawn_for_every_noisy_row():
    """The same members as a random ensemble of the package: its certificates hold."""
    models = [check.halfspace(p) for p in MEMBERS]
    runs = check.votes(models, RUNS, reducers=("random-member",))
    outcomes = [check.certified(run, ALPHA) for run in runs]
    assert not is_red(outcomes, mixture_radius())
    # Most of what Cohen's bound gives for the mean probability, with a thousand samples.
    radii = sorted(outcome.radius for outcome in outcomes)
    assert radii[len(radii) // 2] > 0.8 * check.true_radius(sum(MEMBERS) / len(MEMBERS))


def test_a_network_that_draws_a_member_per_call_is_refused():
    members, draw = [check.halfspace(p).network for p in MEMBERS], random.Random(0)

    class PerCall(type(members[0])):
        def forward(self, x):
            return draw.choice(members)(x)

    model = Model(PerCall(2, 2).eval(), InputSpec((-1.0, 1.0), shape=(2,)), 2)
    with pytest.raises(ModelError, match=r"different answers|depend on the other inputs"):
        probe(model, torch.zeros(4, 2))
