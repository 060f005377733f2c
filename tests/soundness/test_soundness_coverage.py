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
@pytest.mark.parametrize(
    "p",
    [
        check.PROBABILITIES[0],
        *(pytest.param(p, marks=pytest.mark.slow) for p in check.PROBABILITIES[1:]),
    ],
)
@pytest.mark.parametrize(
    ("noise", "radius"),
    [
        pytest.param(lambda: None, check.true_radius, id="real", marks=pytest.mark.slow),
        pytest.param(check.lattice_noise, check.lattice_radius, id="lattice"),
    ],
)
def test_certificates_are_wrong_as_rarely_as_alpha_says(noise, radius, p, runs):
    wrong = dict.fromkeys(ALPHAS, 0)
    for run in check.votes(check.halfspace(p), runs, noise=noise()):
        for alpha in ALPHAS:
            wrong[alpha] += check.is_wrong(check.certified(run, alpha), radius(p))
    for alpha in ALPHAS:
        assert wrong[alpha] <= check.most_failures(runs, alpha)


@pytest.mark.parametrize(
    "p",
    [
        pytest.param(p, marks=[pytest.mark.slow] if i else [])
        for i, p in enumerate(check.PROBABILITIES)
    ],
)
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
    options["arithmetic"] = "real"
    found = phalanx.certify(model, torch.zeros(runs, 2), sigma=check.SIGMA, alpha=alpha, **options)
    assert [(c.predicted, c.radius) for c in found] == expected


def test_this_is_what_certify_does_on_a_lattice():
    runs, alpha, model = 25, 0.01, check.halfspace(0.9)
    noisy = check.votes(model, runs, noise=check.lattice_noise())
    expected = [check.certified(run, alpha) for run in noisy]
    options = {"n": check.N, "n0": check.N0, "chunk": check.CHUNK, "batch": 4096}
    options["steps"] = check.LATTICE.steps
    found = phalanx.certify(model, torch.zeros(runs, 2), sigma=check.SIGMA, alpha=alpha, **options)
    assert [c.predicted for c in found] == [outcome.predicted for outcome in expected]
    for row, outcome in zip(found, expected, strict=True):
        # Zero lies on the lattice: the sampler alone is charged.
        assert row.radius <= outcome.radius == pytest.approx(row.radius, rel=1e-9)
