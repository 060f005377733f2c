"""The end-to-end coverage gate: how often a certificate of the engine is wrong."""

from __future__ import annotations

import checks_coverage as check
import pytest
import torch

import phalanx

ALPHAS = (0.01, 0.001)
SHORT, FULL = 2_000, 200_000

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "runs",
    [
        SHORT,
        # 0.4 ms a run: a minute and a half for each probability
        pytest.param(FULL, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
@pytest.mark.parametrize("p", check.PROBABILITIES)
def test_certificates_are_wrong_as_rarely_as_alpha_says(p, runs):
    wrong = dict.fromkeys(ALPHAS, 0)
    for run in check.votes(check.halfspace(p), runs):
        for alpha in ALPHAS:
            wrong[alpha] += check.is_wrong(check.certified(run, alpha), check.true_radius(p))
    for alpha in ALPHAS:
        assert wrong[alpha] <= check.most_failures(runs, alpha)


@pytest.mark.parametrize("p", check.PROBABILITIES)
def test_runs_are_independent(p):
    runs = list(check.votes(check.halfspace(p), SHORT))
    assert abs(check.dispersion(runs, p)) < check.MOST_DISPERSION


@pytest.mark.parametrize("p", check.PROBABILITIES)
def test_the_true_radius_is_true(p):
    """The network's own votes beside the closed form, at the origin and at the radius."""
    model, radius = check.halfspace(p), check.true_radius(p)
    noise = check.SIGMA * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(1))
    for shift, expected in ((0.0, p), (radius, 0.5)):
        share = (model(noise - shift * torch.tensor(check.NORMAL)).argmax(1) == 1).double().mean()
        assert float(share) == pytest.approx(expected, abs=5e-3)


def test_this_is_what_certify_does():
    """`phalanx.certify` on the same images gives the certificates that the gate judges."""
    runs, alpha, model = 25, 0.01, check.halfspace(0.9)
    expected = [check.certified(run, alpha) for run in check.votes(model, runs)]
    options = {"n": check.N, "n0": check.N0, "chunk": check.CHUNK, "batch": 4096}
    found = phalanx.certify(model, torch.zeros(runs, 2), sigma=check.SIGMA, alpha=alpha, **options)
    assert [(c.predicted, c.radius) for c in found] == expected
