"""Double sampling against a linear programme over a grid of (radius, angle), and planted bugs.

The grid is computed here from the densities alone: no formula of the package enters it.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.special import ndtr, ndtri
from scipy.stats import beta, gamma

from phalanx.errors import ParameterError
from phalanx.smoothing.double_sampling import certify
from phalanx.smoothing.double_sampling.boxes import Boxes, boxes_from_counts
from phalanx.smoothing.double_sampling.certify import lower_bound
from phalanx.smoothing.double_sampling.laws import (
    GeneralisedGaussian,
    SmallerVariance,
    Truncation,
    truncation_mass,
)
from phalanx.smoothing.double_sampling.pairs import pair_of
from phalanx.smoothing.double_sampling.radius import certified_radii, plain_radii
from phalanx.smoothing.double_sampling.search import State, improve, propose, start

Floats = NDArray[np.float64]
LAWS = [
    (GeneralisedGaussian(4, 0, 1.0), SmallerVariance(0.7)),
    (GeneralisedGaussian(9, 3, 0.5), SmallerVariance(0.4)),
    (GeneralisedGaussian(12, 4, 2.0), Truncation(0.4)),
    (GeneralisedGaussian(784, 380, 0.5), SmallerVariance(0.4)),
    (GeneralisedGaussian(3072, 1530, 0.5), Truncation(0.5)),
]


@dataclass(frozen=True)
class Cells:
    """Probabilities of cells of (radius, angle) under P, Q and P moved by a distance."""

    p: Floats
    q: Floats
    moved: Floats
    ratio: Floats
    """The moved density over that of P: what a worst set prefers to be small."""


def cells_of(law, second, distance: float, size: int = 700) -> Cells:
    """Equally likely shells times equally likely caps under P, the other densities by ratio."""
    levels = (np.arange(size) + 0.5) / size
    radius = law.unit * np.sqrt(gamma.ppf(levels, law.shape))[:, None]
    cosine = 2 * beta.ppf(levels, law.half, law.half)[None, :] - 1
    there = radius**2 + distance**2 - 2 * radius * distance * cosine
    scale = law.unit**2

    def log_density(square: Floats, squeeze: float = 1.0) -> Floats:
        return -law.k * np.log(square) - square * squeeze / scale

    ratio = np.exp(log_density(there) - log_density(radius**2))
    p = np.full((size, size), 1 / size**2)
    if isinstance(second, Truncation):
        weight = (levels[:, None] <= second.mass) / second.mass
    else:
        narrower = log_density(radius**2, (law.sigma / second.sigma) ** 2)
        weight = np.exp(narrower - log_density(radius**2))
        weight = weight / weight.mean()
    parts = (p, p * weight, p * ratio, ratio)
    return Cells(*(np.broadcast_to(part, (size, size)).copy() for part in parts))


def programme(cells: Cells, box: Floats, size: int = 70) -> float:
    """The smallest moved probability of any weighted set in the box, on blocks of the cells."""
    step = len(cells.p) // size

    def coarse(part: Floats) -> Floats:
        return part.reshape(size, step, size, step).sum((1, 3)).ravel()

    p, q = coarse(cells.p), coarse(cells.q)
    found = linprog(
        coarse(cells.moved),
        A_ub=np.stack([-p, p, -q, q]),
        b_ub=[-box[0], box[1], -box[2], box[3]],
        bounds=(0, 1),
        method="highs",
    )
    assert found.status == 0
    return float(found.fun)


def some_set(cells: Cells, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A set of cells: a cap, a shell, a likelihood region, or any mixture of them."""
    size = len(cells.p)
    shell, cap = np.meshgrid(np.arange(size) / size, np.arange(size) / size, indexing="ij")
    score = rng.normal() * shell + rng.normal() * cap + rng.normal() * np.log(cells.ratio)
    score += 0.3 * rng.normal() * np.sin(9 * shell + rng.uniform(0, 6))
    return score < np.quantile(score, rng.uniform(0.5, 0.999))


@pytest.mark.parametrize(("law", "second"), LAWS)
def test_no_multipliers_exceed_what_some_set_has(law, second):
    """Weak duality: a set in the box is a counterexample to any larger bound."""
    rng = np.random.default_rng(7)
    pair = pair_of(law, second, 1)
    for distance in (0.3 * law.sigma, 1.2 * law.sigma):
        cells = cells_of(law, second, distance)
        for _ in range(15):
            chosen = some_set(cells, rng)
            p, q, moved = (float(part[chosen].sum()) for part in (cells.p, cells.q, cells.moved))
            box = np.clip(np.array([[p], [p], [q], [q]]), 0, 1)
            l1 = np.exp(rng.normal(0, 1.5, 8))
            l2 = rng.normal(0, 1.0, 8) * l1
            # One set of multipliers near the best ones, where the bound is sharp.
            near = State(np.array([distance / law.unit]), l1[:1].copy(), np.zeros(1))
            near, _, _ = improve(pair, box, near)
            l1[0], l2[0] = near.l1[0], near.l2[0]
            for one, two in zip(l1, l2, strict=True):
                bound = lower_bound(pair, box, near.c, np.array([one]), np.array([two]), cells=256)
                # The grid's own error is about 1 / size of the multipliers' scale.
                assert not bound[0] > moved + 2e-3 * (1 + one + abs(two))


@pytest.mark.parametrize(("law", "second"), LAWS)
@pytest.mark.parametrize(
    "box",
    [
        (0.80, 0.82, 0.90, 0.92),  # more votes near the centre than a half-space has
        (0.80, 0.82, 0.78, 0.80),  # fewer: the multiplier of Q is negative
        (0.95, 0.96, 0.97, 0.99),
        (0.60, 0.70, 0.55, 0.75),
    ],
)
def test_the_bound_is_the_optimum_of_the_linear_programme(law, second, box):
    pair, column = pair_of(law, second, 1), np.array(box)[:, None]
    found = certified_radii(law, second, Boxes(*column))
    distance = float(found.radius[0]) or 0.1 * law.sigma
    value = programme(cells_of(law, second, distance), column[:, 0])
    state = State(np.array([distance / law.unit]), np.ones(1), np.zeros(1))
    state, approximate, _ = improve(pair, column, state)
    bound = lower_bound(pair, column, state.c, state.l1, state.l2)
    # Sets made of blocks are fewer than all sets; the grid's masses are good to about 1e-3.
    assert abs(bound[0] - approximate[0]) <= 2e-3
    assert bound[0] <= value + 2e-3
    assert bound[0] >= value - 2e-2
    assert found.radius[0] > 0


@pytest.mark.parametrize("dimension", [3, 20, 784])
def test_order_zero_is_the_gaussian(dimension):
    law, p = GeneralisedGaussian(dimension, 0, 0.5), np.array([0.51, 0.7, 0.9, 0.99, 0.9999])
    exact = 0.5 * ndtri(p)
    found = plain_radii(law, p)
    assert np.all(found.radius <= exact)
    # In three dimensions the boundary has a kink that the search's few nodes do not resolve.
    assert np.all(found.radius >= exact - (2e-4 if dimension > 3 else 2e-2))
    pair = pair_of(law, Truncation(0.5), 5).plain()
    at = 0.4 * np.ones(5)
    state = State(at / law.unit, np.exp(ndtri(p) * at / 0.5 - 0.32), np.zeros(5))
    box = np.stack([p, np.ones(5), np.zeros(5), np.ones(5)])
    bound = lower_bound(pair, box, *improve_only(pair, box, state))
    worst = ndtr(ndtri(p) - 0.8)
    assert np.all(bound <= worst)
    assert np.all(bound >= worst - (2e-4 if dimension > 3 else 2e-3))


def improve_only(pair, box, state):
    state, _, _ = improve(pair, box, state)
    return state.c, state.l1, state.l2


def coarse_bounds_exceed_fine_ones(bound_of) -> bool:
    """The check of the quadrature's error: with any number of cells it is a lower bound."""
    for law, second in LAWS:
        pair = pair_of(law, second, 3)
        box = np.array([[0.8, 0.99, 0.97], [0.82, 0.995, 0.98], [0.88, 0.99, 0.9], [0.9, 1, 0.92]])
        state = propose(pair.plain(), box, start(pair, box[0]))
        state.l2 = np.array([0.1, 0.3, -0.05]) * state.l1
        for shift in (0.5, 1.0, 1.3):
            c = shift * state.c
            fine = bound_of(pair, box, c, state.l1, state.l2, cells=8192)
            for cells in (8, 12, 16, 32, 64, 256):
                coarse = bound_of(pair, box, c, state.l1, state.l2, cells=cells)
                # The fine bound lies below the truth by less than a 256th of a 512-cell error.
                if np.any(coarse > fine + 1e-5):
                    return True
    return False


def test_the_error_of_the_quadrature_is_charged():
    assert not coarse_bounds_exceed_fine_ones(lower_bound)


def test_planted_a_quadrature_without_its_error_is_noticed(monkeypatch):
    def careless(node, slope, mass, flow, width):
        return ((node[:, 1:] + node[:, :-1]) / 2 * mass).sum(1)

    monkeypatch.setattr(certify, "_integral", careless)
    assert coarse_bounds_exceed_fine_ones(lower_bound)


def looser_boxes_certify_more(radii_of) -> bool:
    """The check of the box: none of its sides may help by being further out."""
    rng = np.random.default_rng(3)
    rows = 12
    law, second = LAWS[3]
    p, q = ndtr(rng.uniform(0.4, 3, rows)), ndtr(rng.uniform(0.5, 3.5, rows))
    tight = [p - 0.01 * (1 - p), p + 0.01 * (1 - p), q - 0.01 * (1 - q), q + 0.01 * (1 - q)]
    base = radii_of(law, second, Boxes(*tight))
    possible = base > 0
    for side, change in enumerate((-0.05, 0.05, -0.05, 0.05)):
        loose = [part.copy() for part in tight]
        loose[side] = np.clip(loose[side] + change * (1 - loose[side]), 0, 1)
        more = radii_of(law, second, Boxes(*loose))
        if np.any(possible & (more > base + 1e-4)):
            return True
    return False


def test_a_looser_box_never_certifies_more():
    assert not looser_boxes_certify_more(lambda *a: certified_radii(*a).radius)


@pytest.mark.parametrize("swap", [(1, 0, 2, 3), (0, 1, 3, 2)])
def test_planted_swapped_bounds_are_noticed(monkeypatch, swap):
    stacked = Boxes.stacked
    monkeypatch.setattr(Boxes, "stacked", lambda self: stacked(self)[list(swap)])
    assert looser_boxes_certify_more(lambda *a: certified_radii(*a).radius)


@pytest.mark.parametrize(("law", "second"), LAWS)
def test_the_second_law_never_costs_radius_and_never_beats_exact_knowledge(law, second):
    """Same p: at least plain Neyman-Pearson; and a wide box is that, not more."""
    p = np.array([0.6, 0.9, 0.99])
    plain = plain_radii(law, p).radius
    wide = certified_radii(law, second, Boxes(p, p**0, 0 * p, p**0)).radius
    assert np.allclose(wide, plain, rtol=0, atol=1e-4 * law.sigma)
    half_space = certified_radii(law, second, Boxes(p, p + 1e-3, p, p**0)).radius
    assert np.all(half_space >= plain - 1e-4 * law.sigma)


@pytest.mark.parametrize(("law", "second"), LAWS)
def test_every_smaller_distance_is_certified_too(law, second):
    """What the chain and the argument of radius.py claim, looked at."""
    box = np.array([[0.8, 0.8], [0.82, 0.82], [0.78, 0.9], [0.80, 0.92]])
    pair, found = pair_of(law, second, 2), certified_radii(law, second, Boxes(*box))
    assert np.all(found.radius > 0)
    for part in np.linspace(0.05, 1, 12):
        state = State(part * found.radius / law.unit, found.l1.copy(), found.l2.copy())
        state, _, _ = improve(pair, box, state)
        bound = lower_bound(pair, box, state.c, state.l1, state.l2)
        assert np.all(bound > 0.5 - 1e-6)


def test_rows_do_not_depend_on_their_company():
    law, second = LAWS[3]
    rng = np.random.default_rng(1)
    p, q = ndtr(rng.uniform(0.2, 3, 40)), ndtr(rng.uniform(0.5, 3.7, 40))
    box = np.stack([p, p + 0.1 * (1 - p), q, q + 0.1 * (1 - q)])
    together = certified_radii(law, second, Boxes(*box)).radius
    for row in (0, 17, 39):
        alone = certified_radii(law, second, Boxes(*box[:, row : row + 1])).radius
        assert alone[0] == together[row]


@pytest.mark.parametrize(("dimension", "order"), [(784, 0), (784, 380), (64, 20), (3072, 1530)])
def test_no_radius_is_above_that_of_a_plane_however_small(dimension, order):
    """A plane loses a class of probability 1/2 + e at a distance of ``e / steepest`` or a little
    more, by a relative ``O(e^2)``; rounding at tiny distances is charged."""
    law = GeneralisedGaussian(dimension, order, 1.0)
    beyond_half = np.geomspace(1e-9, 1e-4, 60)
    found = plain_radii(law, 0.5 + beyond_half).radius
    assert (found <= beyond_half / law.steepest * (1 + 1e-7)).all()
    assert found[-1] >= beyond_half[-1] / law.steepest * (1 - 1e-3)


def test_planted_uncharged_offsets_are_noticed(monkeypatch):
    monkeypatch.setattr(certify, "OFFSET_ROUNDING", 0.0)
    with pytest.raises(AssertionError):
        test_no_radius_is_above_that_of_a_plane_however_small(784, 380)


def test_nothing_is_certified_from_half_or_from_counts_that_contradict_each_other():
    law, second = LAWS[4]
    half = certified_radii(law, second, Boxes([0.5], [0.6], [0.9], [1.0]))
    assert half.radius[0] == 0
    assert np.isnan(half.bound[0])
    # Everything inside the ball of mass 1/2 is voted for, yet only 0.4 of all.
    assert certified_radii(law, second, Boxes([0.6], [0.61], [0.0], [0.05])).radius[0] == 0


def test_boxes_from_counts_split_alpha_four_ways():
    box = boxes_from_counts([950], 1000, [990], 1000, 0.004)
    alone = boxes_from_counts([950], 1000, [0], 10, 0.004)
    assert box.p_low == alone.p_low
    # P(X >= 950) at the lower bound is alpha / 4.
    assert np.isclose(beta.cdf(box.p_low[0], 950, 51), 0.001, rtol=1e-6)
    assert np.isclose(beta.sf(box.q_high[0], 991, 10), 0.001, rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GeneralisedGaussian(784, 392, 0.5),
        lambda: GeneralisedGaussian(784, -1, 0.5),
        lambda: GeneralisedGaussian(2, 0, 0.5),
        lambda: GeneralisedGaussian(784, 380.5, 0.5),
        lambda: GeneralisedGaussian(784, 380, float("nan")),
        lambda: GeneralisedGaussian(784, 380, 0.0),
        lambda: SmallerVariance(-0.4),
        lambda: SmallerVariance(float("inf")),
        lambda: Truncation(1.0),
        lambda: Truncation(float("nan")),
        lambda: truncation_mass(float("nan")),
        lambda: Boxes([0.9], [0.8], [0.0], [1.0]),
        lambda: Boxes([float("nan")], [0.8], [0.0], [1.0]),
        lambda: Boxes([0.5, 0.6], [0.8], [0.0], [1.0]),
        lambda: pair_of(GeneralisedGaussian(784, 380, 0.5), SmallerVariance(0.5), 1),
        lambda: pair_of(GeneralisedGaussian(3072, 0, 0.5), SmallerVariance(0.4), 1),
        lambda: pair_of(GeneralisedGaussian(784, 380, 0.5), [Truncation(0.5)], 2),
        lambda: pair_of(
            GeneralisedGaussian(784, 380, 0.5), [Truncation(0.5), SmallerVariance(0.4)], 2
        ),
        lambda: boxes_from_counts([11], 10, [5], 10, 0.001),
        lambda: boxes_from_counts([5], 10, [5], 10, 0.0),
        lambda: plain_radii(GeneralisedGaussian(784, 380, 0.5), np.array([np.nan])),
    ],
)
def test_what_means_nothing_is_refused(make):
    with pytest.raises(ParameterError):
        make()


@pytest.mark.parametrize("order", [0, 200, 380, 390, 391])
def test_extreme_probabilities_and_orders_raise_no_warning(order):
    law = GeneralisedGaussian(784, order, 0.5)
    p = np.array([0.5 + 1e-12, 0.5 + 1e-6, 1 - 1e-6, 1 - 1e-9, 1.0])
    found = certified_radii(law, Truncation(0.5), Boxes(p, p**0, p, p**0))
    assert np.all(found.radius >= 0)
    assert np.all(np.isfinite(found.radius))
    assert found.radius[2] > 1


def test_multipliers_that_make_no_ratio_prove_nothing():
    """Inside the cut the weight of a point is ``l1 + l2 / mass``: it must be positive."""
    pair = pair_of(GeneralisedGaussian(784, 380, 0.5), Truncation(0.5), 1)
    box = np.array([[0.999], [1.0], [0.999], [1.0]])
    found = lower_bound(pair, box, np.array([0.3]), np.array([0.5]), np.array([-2.0]))
    assert not found[0] > -np.inf
