"""The gradient certificate: against the linear program it solves, integration, and its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq, linprog, minimize_scalar
from scipy.stats import norm

from phalanx.errors import ParameterError
from phalanx.smoothing.certificate import certify_counts
from phalanx.smoothing.higher_order.certificate import certify_gradient
from phalanx.smoothing.higher_order.radius import GradientRadius, interval, largest_slope
from phalanx.smoothing.higher_order.slope import (
    Halves,
    deviation,
    excess,
    halves_of,
    slope_upper,
)
from phalanx.smoothing.radii import probability_for, radii
from phalanx.verdicts import Verdict

PROBABILITIES = (0.51, 0.6, 0.8, 0.95, 0.999)
COHEN = radii.get("neyman-pearson")


def fewest_votes(p: float, slope: float, radius: float) -> float:
    """The linear program, over voters that are constant on each of many cells of the line."""
    edges = np.concatenate([[-np.inf], np.linspace(-7, 7, 3001), [np.inf]])
    mass = np.diff(norm.cdf(edges))
    moment = -np.diff(norm.pdf(edges))
    shifted = np.diff(norm.cdf(edges - radius))
    found = linprog(shifted, A_ub=[-mass, -moment], b_ub=[-p, slope], bounds=(0, 1), method="highs")
    assert found.status == 0
    return float(found.fun)


@pytest.mark.parametrize("p", [0.6, 0.8, 0.99])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_worst_voter_has_half_of_the_votes_at_the_radius(p, share):
    slope = share * largest_slope(p)
    radius = GradientRadius(slope).radius(p, 1.0)
    assert fewest_votes(p, slope, radius) == pytest.approx(0.5, abs=1e-4)
    assert fewest_votes(p, slope, 0.98 * radius) > 0.5
    assert fewest_votes(p, slope, 1.02 * radius) < 0.5


@pytest.mark.parametrize("p", PROBABILITIES)
def test_the_largest_slope_gives_the_radius_of_cohen(p):
    cohen = COHEN.radius(p, 0.5)
    for slope in (largest_slope(p) * (1 + 1e-9), 1.0, math.inf):
        assert GradientRadius(slope).radius(p, 0.5) == cohen
    assert GradientRadius(0.9 * largest_slope(p)).radius(p, 0.5) > cohen


@pytest.mark.parametrize("p", PROBABILITIES)
def test_slope_zero_gives_the_radius_of_a_slab(p):
    cut = norm.ppf((1 + p) / 2)
    exact = brentq(lambda r: norm.cdf(cut - r) - norm.cdf(-cut - r) - 0.5, 0, cut, xtol=1e-13)
    radius = GradientRadius(0.0).radius(p, 1.0)
    assert exact - 1e-9 <= radius <= exact + 1e-13
    assert radius < norm.ppf((1 + p) / 2)


def test_the_radius_rises_with_p_and_falls_with_the_slope():
    p = np.linspace(0.5 + 1e-6, 1 - 1e-9, 60)
    slopes = np.concatenate([[0.0], np.geomspace(1e-9, 0.5, 60)])
    table = np.array([[GradientRadius(g).radius(q, 1.0) for g in slopes.tolist()] for q in p])
    assert (np.diff(table, axis=0) >= 0).all()
    assert (np.diff(table, axis=1) <= 0).all()
    assert (table >= [[COHEN.radius(q, 1.0)] for q in p]).all()


@pytest.mark.parametrize("p", [0.5 + 1e-15, 0.5 + 1e-12, 0.5 + 1e-6, 1 - 1e-9, 1 - 1e-15])
@pytest.mark.parametrize("slope", [0.0, 1e-12, 1e-3])
def test_extreme_probabilities(p, slope):
    rule = GradientRadius(slope)
    assert COHEN.radius(p, 1.0) <= rule.radius(p, 1.0) < 9
    low, high = interval(1 - p, slope)
    assert low <= 0 <= high
    assert norm.sf(high) + norm.cdf(low) == pytest.approx(1 - p, rel=1e-9)


def test_it_is_a_radius_rule():
    rule = GradientRadius(0.05)
    assert rule.radius(0.5, 1.0) == 0.0
    assert rule.radius(0.9, 0.25) == pytest.approx(0.25 * rule.radius(0.9, 1.0))
    p = probability_for(rule, 0.5, 0.5)
    assert rule.radius(p, 0.5) >= 0.5 > rule.radius(p - 1e-6, 0.5)


@pytest.mark.parametrize("slope", [-1e-9, math.nan, -math.inf])
def test_no_slope_below_zero(slope):
    with pytest.raises(ParameterError, match="slope"):
        GradientRadius(slope)


@pytest.mark.parametrize("p", [math.nan, 1.0, -0.1])
def test_no_probability(p):
    with pytest.raises(ParameterError):
        GradientRadius(0.1).radius(p, 1.0)


def most(t: float, q: float) -> float:
    """``psi(t)`` by quadrature over both tails and a search for the split."""

    def weighted(z: float) -> float:
        return (math.expm1(-t * z) + t * z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def tails(left: float) -> float:
        low, high = norm.ppf(left), norm.isf(q - left)
        below = quad(weighted, -30, low, points=[low - 1, low - t], epsabs=0, epsrel=1e-10)[0]
        return below + quad(weighted, high, 30, points=[high + 1], epsabs=0, epsrel=1e-10)[0]

    width = {"xatol": 1e-9 * q}
    found = minimize_scalar(
        lambda left: -tails(left), (q / 2, q), bounds=(q / 2, q), method="bounded", options=width
    )
    return -float(found.fun)


@pytest.mark.parametrize("q", [0.4, 0.05, 1e-3])
@pytest.mark.parametrize("t", [0.003, 0.1, 0.5, 2.0])
def test_excess_is_that_of_the_worst_set(q, t):
    exact = most(t, q)
    assert exact * (1 - 1e-9) <= excess(np.array([t]), q)[0] <= exact * (1 + 1e-6)


def test_excess_beats_random_sets_and_grows_with_their_mass():
    rng, t = np.random.default_rng(0), 0.7
    edges = norm.ppf(np.linspace(0, 1, 41))
    # E exp(-t z) over an interval is known: the exponential only shifts the normal.
    tilted = math.exp(t * t / 2) * np.diff(norm.cdf(edges + t))
    worth = tilted - 1 / 40 - t * np.diff(norm.pdf(edges))
    for _ in range(200):
        chosen = rng.random(40) < rng.random()
        if 0 < chosen.mean() <= 1:
            bound = excess(np.array([t]), float(chosen.mean()))[0]
            assert worth[chosen].sum() <= bound * (1 + 1e-9)
    values = [excess(np.array([t]), q)[0] for q in np.linspace(0.001, 1, 200)]
    assert (np.diff(values) >= 0).all()
    assert values[-1] == pytest.approx(math.expm1(t * t / 2))


def test_deviation_is_near_that_of_a_normal_and_grows_with_q():
    q, n, alpha = 0.05, 50_000, 1e-3
    cut = norm.isf(q / 2)
    moment = 2 * (cut * norm.pdf(cut) + q / 2)
    found = deviation(q, n, alpha)
    assert found == pytest.approx(math.sqrt(2 * moment * -math.log(alpha) / n), rel=0.02)
    values = [deviation(q, n, alpha) for q in np.geomspace(1e-9, 1, 200).tolist()]
    assert (np.diff(values) >= 0).all()


@pytest.mark.parametrize(
    ("q", "n", "alpha"),
    [
        *((q, 10, 0.1) for q in (0, 1.5, math.nan)),
        *((0.1, 10, alpha) for alpha in (0.0, 1.0, math.nan)),
        *((0.1, n, 0.1) for n in (0, 2.5)),
    ],
)
def test_deviation_refuses(q, n, alpha):
    with pytest.raises(ParameterError):
        deviation(q, n, alpha)


def test_products_of_halves_do_not_depend_on_the_order_of_values():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 5000)) * 1e3
    shuffled = rng.permutation(5000)
    assert halves_of(a, b, 5, 5) == halves_of(a[shuffled], b[shuffled], 5, 5)
    assert halves_of(a, b, 5, 5).product == pytest.approx(float(a @ b))
    with pytest.raises(ParameterError, match="of no one input"):
        halves_of(a, b[:-1], 5, 5)


@pytest.mark.parametrize(
    "values",
    [
        (0, 5, 1.0, 1.0, 0.0),
        (5, 5, -1.0, 1.0, 0.0),
        (5, 5, math.nan, 1.0, 0.0),
        (5, 5, 1.0, math.inf, 0.0),
        *((5, 5, 1.0, 1.0, product) for product in (1.1, -1.1, math.nan)),
    ],
)
def test_no_halves(values):
    with pytest.raises(ParameterError):
        Halves(*values)


def drawn(d: int, n: int, q: float, slope: float, seed: int = 0) -> Halves:
    """Two sums over about q n rows each, with the mean that the slope says."""
    rng = np.random.default_rng(seed)
    sums = rng.normal(size=(2, d)) * np.sqrt(rng.binomial(n, q, size=(2, 1)))
    sums[:, 0] += n * slope
    return halves_of(*sums, n, n)


def test_without_a_row_the_bound_is_one_deviation():
    bound = slope_upper(Halves(1000, 1000, 0.0, 0.0, 0.0), 0.01, 0.1)
    assert bound == pytest.approx(deviation(0.01, 1000, 0.05))


@pytest.mark.parametrize("slope", [0.0, 0.02, 0.05])
def test_slope_is_bounded_far_below_the_floor_of_the_plain_norm(slope):
    d, n, p = 784, 50_000, 0.95
    bound = slope_upper(drawn(d, n, 1 - p, slope), 1 - p, 1e-4)
    assert slope <= bound < slope + math.sqrt(d * p / (2 * n)) / 3


def test_gradient_certificate_gains_where_the_slope_is_small():
    votes, halves = {3: 95_000, 1: 5_000}, drawn(784, 50_000, 0.05, 0.0)
    found = certify_gradient({3: 100}, votes, halves, sigma=0.5, alpha=0.001)
    cohen = certify_counts({3: 100}, votes, sigma=0.5, alpha=0.001)
    assert found.verdict is Verdict.VERIFIED
    assert found.radius > 1.1 * cohen.radius
    assert found.p_lower < cohen.p_lower
    assert (found.predicted, found.n_a, found.alpha) == (3, 95_000, 0.001)


def test_gradient_certificate_falls_back_to_cohen_at_its_share():
    votes, halves = {3: 95_000, 1: 5_000}, drawn(784, 50_000, 0.05, largest_slope(0.95))
    found = certify_gradient({3: 9}, votes, halves, sigma=0.5, alpha=0.001, share=0.2)
    assert found.radius == certify_counts({3: 9}, votes, sigma=0.5, alpha=0.0008).radius


def test_gradient_certificate_abstains_and_errs_as_any_other():
    halves = Halves(500, 500, 10.0, 10.0, 0.0)
    found = certify_gradient({3: 9}, {3: 500, 1: 500}, halves, sigma=0.5, alpha=0.001)
    assert (found.verdict, found.radius) == (Verdict.ABSTAINED, 0.0)
    broken = certify_gradient({3: 9}, {3: 999, -1: 1}, halves, sigma=0.5, alpha=0.001)
    assert broken.verdict is Verdict.ERROR
    assert broken.radius is None


@pytest.mark.parametrize("share", [0.0, 1.0, -1, math.nan])
def test_no_share(share):
    halves = Halves(500, 500, 10.0, 10.0, 0.0)
    with pytest.raises(ParameterError, match="share"):
        certify_gradient({3: 9}, {3: 1000}, halves, sigma=0.5, alpha=0.001, share=share)


@pytest.mark.parametrize("votes", [{3: 999}, {3: 1000}])
def test_halves_of_other_votes(votes):
    halves = Halves(500, 500, 10.0, 10.0, 0.0)
    with pytest.raises(ParameterError):
        certify_gradient({3: 9}, votes, halves, sigma=0.5, alpha=0.001)


def test_a_product_that_was_rounded_down_loses_no_slope():
    """Sums that nearly cancel, where the last digits of their product decide."""
    n, q, alpha = 50_000, 0.05, 0.001
    first = deviation(q, n, alpha / 2)
    size = 2 * first
    left = 5e-10 * size**2
    product = left - size * first - first**2 / 4
    true = first / 2 + math.sqrt(left)
    square = (size * n) ** 2
    recorded = Halves(n, n, square, square, (product - 9e-10 * size**2) * n * n)
    assert slope_upper(recorded, q, alpha) >= true
