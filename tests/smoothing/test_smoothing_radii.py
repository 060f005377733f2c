"""Certificates for comparison: against direct integration of the divergences, and in order."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from phalanx.errors import ParameterError
from phalanx.noise.distributions import noise_of
from phalanx.noise.stream import NormalStream
from phalanx.runs.radii import certified_radius, least_stored
from phalanx.smoothing import confidence, stopping
from phalanx.smoothing import radii as radii_
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.radii import NORMS, Ball, laplace_renyi, probability_for, radii, rule_of
from phalanx.smoothing.radii.renyi import EPSILON, bernoulli_divergence
from phalanx.smoothing.stopping import rules

NAMES = ("differential-privacy", "renyi", "f-divergence", "neyman-pearson")


@pytest.mark.parametrize("p", [0.501, 0.6, 0.75, 0.9, 0.99, 0.999, 0.99993])
def test_each_is_at_least_the_one_before(p):
    found = [radii.get(name).radius(p, 0.5) for name in NAMES]
    assert found == sorted(found)
    assert found[0] > 0


@pytest.mark.parametrize("p", [0.5 + 1e-9, 0.501, 0.6, 0.9, 0.999, 1 - 1e-9])
def test_those_of_laplace_noise_too(p):
    names = ("laplace-differential-privacy", "laplace-renyi", "laplace")
    found = [radii.get(name).radius(p, 0.5, Ball("l1")) for name in names]
    assert found[1:] == sorted(found[1:])
    assert 0 < found[0] <= found[2]
    assert found[1] >= found[0] or p < 0.5 + 1e-6  # near a half nothing of a divergence is left


@pytest.mark.parametrize("order", [1.5, 3.0, 20.0])
@pytest.mark.parametrize("distance", [0.05, 0.7, 4.0])
def test_the_divergence_of_laplace_noise_is_its_integral(order, distance):
    def density(z: float) -> float:
        return 0.5 * math.exp(-order * abs(z) - (1 - order) * abs(z - distance))

    mass = quad(density, -60, 60 + distance, points=[0, distance], limit=200)[0]
    found = laplace_renyi._divergence(np.array([order]), np.array([distance]))[0]
    assert found == pytest.approx(math.log(mass) / (order - 1), rel=1e-8)


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


DENSITIES = {
    "uniform": lambda e: np.prod(np.abs(e) <= math.sqrt(3), axis=-1) / 12.0,
    "laplace": lambda e: np.exp(-math.sqrt(2) * np.abs(e).sum(-1)) / 2.0,
    "gaussian": lambda e: np.exp(-(e**2).sum(-1) / 2) / (2 * math.pi),
}
RULES = {"uniform": "uniform", "laplace": "laplace", "gaussian": "neyman-pearson"}


def worst_case(noise: str, p: float, delta: np.ndarray) -> float:
    """The least probability after a move by ``delta`` of a class that had p, over all classifiers.

    By the lemma of Neyman and Pearson it is that of the likelihood ratio, here on 1,200 x 1,200
    cells of the plane, at noise of standard deviation 1.
    """
    axis = np.linspace(-9, 9, 1201)
    cells = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    here, there = DENSITIES[noise](cells), DENSITIES[noise](cells - delta)
    order = np.argsort(there / np.maximum(here, 1e-300), kind="stable")
    mass, moved = np.cumsum(here[order]) / here.sum(), np.cumsum(there[order]) / there.sum()
    return float(np.interp(p, mass, moved))


@pytest.mark.parametrize("noise", DENSITIES)
@pytest.mark.parametrize(
    "norm_name", [n if n == "l2" else pytest.param(n, marks=pytest.mark.slow) for n in NORMS]
)
def test_no_classifier_of_two_values_changes_inside_the_radius(noise, norm_name):
    order = {"l1": 1, "l2": 2, "linf": np.inf}[norm_name]
    for p in (0.6, 0.8, 0.95):
        radius = radii.get(RULES[noise]).radius(p, 1.0, Ball(norm_name, 2))
        for angle in np.linspace(0, math.pi / 2, 7):
            direction = np.array([math.cos(angle), math.sin(angle)])
            delta = radius * direction / np.linalg.norm(direction, order)
            assert worst_case(noise, p, delta) >= 0.5 - 0.004


@pytest.mark.parametrize(
    ("noise", "norm_name", "direction"),
    [
        ("uniform", "l1", (1, 0)),
        ("uniform", "linf", (1, 1)),
        ("uniform", "l2", (0.5**0.5, 0.5**0.5)),
        ("laplace", "l1", (1, 0)),
        ("gaussian", "linf", (1, 1)),
    ],
)
def test_radii_that_are_tight_are(noise, norm_name, direction):
    radius = radii.get(RULES[noise]).radius(0.8, 1.0, Ball(norm_name, 2))
    assert worst_case(noise, 0.8, 1.05 * radius * np.array(direction)) < 0.5


SPHERICAL = [(784, 380), (784, 1), (3072, 1530), (64, 20), (25, 11), (10, 4), (150528, 75260)]


@pytest.mark.parametrize(("dimension", "order"), SPHERICAL)
@pytest.mark.parametrize("norm_name", NORMS)
def test_independent_code_finds_radii_of_generalised_gaussians(dimension, order, norm_name):
    """From the other side: what is integrated with an error bound lies below."""
    config = {"noise": "generalised-gaussian", "norm": norm_name}
    config |= {"dimension": dimension, "order": order}
    rule = rule_of("generalised-gaussian", order)
    for p in (0.5 + 1e-6, 0.5005, 0.5011, 0.55, 0.75, 0.9, 0.999, 0.99999, 1 - 1e-8):
        mine = rule.radius(p, 0.5, Ball(norm_name, dimension))
        theirs = certified_radius(p, config, 0.5)
        assert least_stored(theirs, config, 0.5) <= mine <= theirs


@pytest.mark.parametrize(("dimension", "order", "p"), [(64, 20, 0.9), (30, 12, 0.7), (25, 4, 0.97)])
def test_the_worst_classifier_falls_to_a_half_at_the_radius_of_drawn_noise(dimension, order, p):
    """The sampler beside the theorem: the likelihood ratio that accepts a share p of drawn noise
    accepts half of it after a move by the radius, and clearly more after a smaller one."""
    rows, sigma, x = 200_000, 0.5, torch.zeros(dimension)
    noise, drawn = noise_of("generalised-gaussian", sigma, order), torch.empty(rows, dimension)
    noise.fill(drawn, x, NormalStream(11, dimension))
    scale = 2 * sigma**2 * dimension / (dimension - 2 * order)

    def log_density(square: torch.Tensor) -> torch.Tensor:
        return -order * square.log() - square / scale

    def kept(distance: float) -> float:
        first, square = drawn[:, 0].double(), drawn.double().square().sum(1)
        here = log_density(square - 2 * distance * first + distance**2) - log_density(square)
        moved = square + 2 * distance * first + distance**2
        there = log_density(square) - log_density(moved)
        return float((there < torch.quantile(here[: rows // 2], p)).double().mean())

    radius = rule_of("generalised-gaussian", order).radius(p, sigma, Ball("l2", dimension))
    error = math.sqrt(0.25 / rows) + math.sqrt(p * (1 - p) / (rows // 2)) * 3
    assert abs(kept(radius) - 0.5) < 4 * error
    assert kept(0.95 * radius) > 0.5 > kept(1.05 * radius)


def test_order_zero_has_the_radius_of_gaussian_noise():
    gaussian, rule = radii.get("neyman-pearson"), rule_of("generalised-gaussian", 0)
    for p in (0.6, 0.99, 0.99999):
        expected = gaussian.radius(p, 0.5, Ball("l2", 784))
        found = rule.radius(p, 0.5, Ball("l2", 784))
        assert found == pytest.approx(expected, rel=1.1e-6)
        assert found < expected


def test_a_radius_that_depends_on_the_dimension_needs_it():
    for rule, norm_name in (
        ("neyman-pearson", "linf"),
        ("uniform", "l2"),
        ("laplace", "linf"),
        ("generalised-gaussian", "l2"),
    ):
        with pytest.raises(ParameterError, match="number of values"):
            radii.get(rule).radius(0.9, 0.5, Ball(norm_name))
    for bad in ("l3", "L2", ""):
        with pytest.raises(ParameterError, match="norm is"):
            Ball(bad)
    for bad in (0, -1, 2.5, True):
        with pytest.raises(ParameterError, match="values"):
            Ball("l2", bad)


@pytest.mark.parametrize("noise", DENSITIES)
@pytest.mark.parametrize("norm_name", NORMS)
@pytest.mark.parametrize("p", [0.500001, 0.7, 0.999, 1 - 1e-12])
def test_independent_code_finds_the_same_radius(noise, norm_name, p):
    config = {"noise": noise, "norm": norm_name, "dimension": 784}
    mine = radii.get(RULES[noise]).radius(p, 0.5, Ball(norm_name, 784))
    theirs = certified_radius(p, config, 0.5)
    assert mine <= theirs
    assert mine == pytest.approx(theirs, rel=1.1e-6)


@pytest.mark.parametrize(
    ("registry", "kind", "module"),
    [(radii, "radii", radii_), (bounds, "bounds", confidence), (rules, "stopping", stopping)],
)
def test_a_registry_offers_the_files_beside_it(registry, kind, module):
    """Its kind names the entry points by which others add to it."""
    assert (registry.kind, registry.package) == (kind, module.__name__)
    files = Path(module.__file__).parent.glob("[!_]*.py")
    assert {file.stem.replace("_", "-") for file in files} <= set(registry.names())


@pytest.mark.parametrize("order", [-2, 5, 10])
def test_an_order_without_a_noise_in_so_many_dimensions_is_refused(order):
    rule = radii.get("generalised-gaussian").of_order(order)
    with pytest.raises(ParameterError, match=f"order (is )?{order}"):
        rule.unit_radius(0.9, Ball("l2", 10))
