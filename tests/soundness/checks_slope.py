"""What a bound on the slope and a radius that uses it must satisfy, on voters known exactly.

Each world is a set of noises that vote for another class, with its mass and its slope in closed
form. Rows are drawn from it, so nothing of the bound is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, chi2, norm

from phalanx.smoothing.confidence.clopper_pearson import ClopperPearson
from phalanx.smoothing.higher_order.slope import Halves, halves_of

SlopeBound = Callable[[Halves, float, float], float]
"""As `phalanx.smoothing.higher_order.slope.slope_upper`."""

ROWS, RUNS, ALPHA = 400, 300, 0.1
DIMENSIONS = (2, 40, 784)
Rows = Callable[[np.random.Generator, int, int], NDArray[np.float64]]
"""The sum of k rows of d values that vote otherwise."""


class SlopeRadius(Protocol):
    """``rule(slope)`` has a radius, as `phalanx.smoothing.higher_order.radius.GradientRadius`."""

    def radius(self, p_lower: float, sigma: float) -> float:
        """The radius for a probability and the slope."""
        ...


class World(NamedTuple):
    """Votes for another class: their probability, the slope, and the sum of k such rows."""

    q: float
    slope: float
    total: Rows


def tails(below: float, above: float) -> World:
    """Another vote where the first value of z is in either tail, of these masses.

    One tail is a linear classifier, which has the largest slope; two alike are a slab, which has
    slope zero and the most variance along its direction.
    """

    def total(rng: np.random.Generator, k: int, d: int) -> NDArray[np.float64]:
        left = rng.binomial(k, below / (below + above))
        u = rng.random(k)
        along = norm.ppf(u[:left] * below).sum() - norm.ppf(u[left:] * above).sum()
        across = rng.normal(size=d - 1) * math.sqrt(k)
        return np.append(along, across)

    slope = abs(float(norm.pdf(norm.ppf(below)) - norm.pdf(norm.ppf(above))))
    return World(below + above, slope, total)


def outside_a_ball(q: float) -> World:
    """Another vote far from the centre: slope zero, and the longest rows."""

    def total(rng: np.random.Generator, k: int, d: int) -> NDArray[np.float64]:
        rows = rng.normal(size=(k, d))
        lengths = np.sqrt(chi2.isf(rng.random(k) * q, d))
        return np.asarray((rows * (lengths / np.linalg.norm(rows, axis=1))[:, None]).sum(0))

    return World(q, 0.0, total)


def coin(q: float) -> World:
    """Another vote at random, whatever the noise: a classifier that is constant but for luck."""
    return World(q, 0.0, lambda rng, k, d: rng.normal(size=d) * math.sqrt(k))


WORLDS = {
    "half space": tails(0.0, 0.2),
    "half space, near": tails(0.45, 0.0),
    "half space, far": tails(0.0, 0.003),
    "slab": tails(0.1, 0.1),
    "lopsided slab": tails(0.02, 0.2),
    "ball": outside_a_ball(0.1),
    "coin": coin(0.3),
    "constant": coin(1e-9),
}


def slope_coverage(bound: SlopeBound, world: World, d: int) -> None:
    """The bound is below the true slope at most alpha of the time."""
    rng = np.random.default_rng(d)
    wrong = 0
    for _ in range(RUNS):
        halves, _ = _drawn(world, d, rng)
        wrong += bound(halves, world.q, ALPHA) < world.slope
    assert wrong <= _most(RUNS, ALPHA), f"{wrong} of {RUNS}"


def gradient_coverage(bound: SlopeBound, rule: Callable[[float], SlopeRadius], d: int) -> None:
    """Both bounds together, on slabs, whose radius is the one that is certified at the truth."""
    rng = np.random.default_rng(d)
    for left, right in ((0.0, 0.1), (0.02, 0.2), (0.1, 0.1)):
        world, truth = tails(left, right), slab_radius(left, right)
        wrong = 0
        for _ in range(RUNS):
            halves, missed = _drawn(world, d, rng)
            p = ClopperPearson().lower(2 * ROWS - missed, 2 * ROWS, 0.9 * ALPHA)
            slope = bound(halves, 1 - p, 0.1 * ALPHA)
            wrong += rule(slope).radius(p, 1.0) > truth
        assert wrong <= _most(RUNS, ALPHA), f"{wrong} of {RUNS} at {left}, {right}"


def never_beyond_a_real_voter(rule: Callable[[float], SlopeRadius]) -> None:
    """Unions of intervals of the line keep their class up to the radius that p and slope give."""
    rng = np.random.default_rng(0)
    tried = 0
    while tried < 200:
        ends = np.sort(rng.normal(size=2 * rng.integers(1, 4)) * 2)
        kept = _votes(ends, 0.0)
        if kept <= 0.5:
            continue
        tried += 1
        slope = abs(float((norm.pdf(ends[1::2]) - norm.pdf(ends[::2])).sum()))
        radius = rule(slope).radius(kept, 1.0)
        assert min(_votes(ends, radius), _votes(ends, -radius)) >= 0.5
        # What is weaker than the truth certifies no more.
        assert rule(slope * 1.1).radius(max(0.0, kept - 0.01), 1.0) <= radius


def tight_for_slabs(rule: Callable[[float], SlopeRadius]) -> None:
    """No rule that knows p and slope alone can exceed the radius of a slab, or of a half space."""
    for left in (0.0, 2.0**-20, 0.01, 0.1, 0.2):
        for right in (2.0**-30, 0.01, 0.1, 0.25):
            truth = slab_radius(min(left, right), max(left, right))
            world = tails(left, right)
            assert 0 <= rule(world.slope).radius(1 - world.q, 1.0) <= truth


def slab_radius(left: float, right: float) -> float:
    """How far a slab with these masses outside goes until it has lost half of the votes."""
    low, high = norm.ppf(left), norm.isf(right)

    def excess(radius: float) -> float:
        return float(0.5 - norm.sf(high - radius) - norm.cdf(low - radius))

    return float(brentq(excess, 0, high, xtol=1e-14)) + 1e-12


def _votes(ends: NDArray[np.float64], shift: float) -> float:
    return float((norm.cdf(ends[1::2] - shift) - norm.cdf(ends[::2] - shift)).sum())


def _drawn(world: World, d: int, rng: np.random.Generator) -> tuple[Halves, int]:
    """Two halves of `ROWS` rows each, and how many voted for another class."""
    counts = [int(k) for k in rng.binomial(ROWS, world.q, size=2)]
    first, second = (world.total(rng, k, d) for k in counts)
    return halves_of(first, second, ROWS, ROWS), sum(counts)


def _most(runs: int, alpha: float) -> float:
    """What failures of probability alpha exceed one time in 30,000."""
    return float(binom.isf(1 / 30_000, runs, alpha))
