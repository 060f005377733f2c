"""Certificates for comparison: against direct integration of the divergences, and in order."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from phalanx.smoothing import confidence, stopping
from phalanx.smoothing import radii as radii_
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.radii import probability_for, radii
from phalanx.smoothing.radii.renyi import EPSILON, bernoulli_divergence
from phalanx.smoothing.stopping import rules

NAMES = ("differential-privacy", "renyi", "f-divergence", "neyman-pearson")


@pytest.mark.parametrize("p", [0.501, 0.6, 0.75, 0.9, 0.99, 0.999, 0.99993])
def test_each_is_at_least_the_one_before(p):
    found = [radii.get(name).radius(p, 0.5) for name in NAMES]
    assert found == sorted(found)
    assert found[0] > 0


def divergence(order: float, distance: float) -> float:
    """Renyi divergence of two unit Gaussians at a distance, by quadrature."""

    def density(z: float) -> float:
        return math.exp(order * norm.logpdf(z, distance) + (1 - order) * norm.logpdf(z))

    middle = order * distance
    return math.log(quad(density, middle - 12, middle + 12)[0]) / (order - 1)


@pytest.mark.parametrize("order", [0.3, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("p", [0.6, 0.9, 0.99])
def test_at_the_radius_the_noise_differs_no_more_than_votes_would_have_to(order, p):
    """Data processing: the votes at distance R have probability above 1/2 inside the radius."""
    radius = (
        radii.get("renyi").radius(p, 1.0) if order > 1 else radii.get("f-divergence").radius(p, 1.0)
    )
    tight = radii.get("neyman-pearson").radius(p, 1.0)
    # No binary vote can differ by more than the noise does; at the tight radius one is at 1/2.
    assert divergence(order, tight) >= float(bernoulli_divergence(np.array([order]), p)[0])
    assert radius <= tight
    worst = norm.cdf(norm.ppf(p) - radius)
    assert worst >= 0.5


def test_divergence_of_coins():
    direct = math.log(0.5**3 * (0.9**-2 + 0.1**-2)) / 2
    assert bernoulli_divergence(np.array([3.0]), 0.9)[0] == pytest.approx(direct)
    nearly_one = bernoulli_divergence(np.array([1 + 1e-7]), 0.9)[0]
    assert nearly_one == pytest.approx(-math.log(4 * 0.9 * 0.1) / 2, rel=1e-5)


def exact_divergence(order: float, p: float) -> Decimal:
    """To 60 digits."""
    with localcontext(prec=60):
        a, p = Decimal(order), Decimal(p)
        total = ((1 - a) * p.ln()).exp() + ((1 - a) * (1 - p).ln()).exp()
        return (total.ln() - a * Decimal(2).ln()) / (a - 1)


@pytest.mark.parametrize("order", [0.01, 0.02, 0.3, 0.5, 0.98, 0.99, 1.001, 1.01, 1.5, 2, 30, 1001])
def test_no_rounding_makes_a_divergence_larger(order):
    """Where it nearly vanishes and where it is large; little is lost."""
    offsets = np.geomspace(1e-16, 1e-3, 40)
    for p in np.concatenate([0.5 + offsets, [0.6, 0.8, 0.95], 1 - offsets]):
        found = bernoulli_divergence(np.array([float(order)]), float(p))[0]
        exact = exact_divergence(float(order), float(p))
        assert Decimal(float(found)) <= max(exact, 0), p
        assert found >= float(exact) * (1 - 1e-9) - 1e-11, p


@pytest.mark.parametrize("order", [0.01, 0.5, 0.99, 1.001, 1.5])
def test_little_of_a_divergence_is_lost_to_rounding(order):
    for p in 0.5 + np.geomspace(1e-4, 1e-1, 40):
        found = bernoulli_divergence(np.array([order]), float(p))[0]
        lost = float(exact_divergence(order, float(p)) - Decimal(float(found)))
        assert 0 <= lost <= (12 + 14 * order) * EPSILON / abs(order - 1), p


@pytest.mark.parametrize("name", NAMES)
def test_no_radius_is_above_the_tight_one_however_small(name):
    rule = radii.get(name)
    for p in 0.5 + np.geomspace(1e-16, 1e-6, 400):
        assert rule.radius(float(p), 1.0) <= NormalDist().inv_cdf(float(p))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("radius", [0.0, 0.05, 0.2])
def test_the_probability_for_a_radius_gives_it(name, radius):
    rule = radii.get(name)
    p = probability_for(rule, radius, 0.5)
    assert rule.radius(p, 0.5) >= radius
    assert rule.radius(p - 1e-9, 0.5) < radius or radius == 0


@pytest.mark.parametrize(
    ("registry", "kind", "module"),
    [(radii, "radii", radii_), (bounds, "bounds", confidence), (rules, "stopping", stopping)],
)
def test_a_registry_offers_the_files_beside_it(registry, kind, module):
    """Its kind names the entry points by which others add to it."""
    assert (registry.kind, registry.package) == (kind, module.__name__)
    files = Path(module.__file__).parent.glob("[!_]*.py")
    assert {file.stem.replace("_", "-") for file in files} <= set(registry.names())
