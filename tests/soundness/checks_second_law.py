"""What a radius from bounds under two laws must satisfy, on sets whose probabilities are known.

Each world is a set of noises that vote for a class, with its probability under both laws and the
distance at which its own smoothed probability has fallen to one half. The worst set of all is
among them: no bound that is sound can exceed its distance, however little, without failing as often
as the counts do. Everything here is integrated over length and angle from the densities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammaincinv
from scipy.stats import beta, binom, gamma

from phalanx.smoothing.double_sampling.boxes import Boxes
from phalanx.smoothing.double_sampling.laws import (
    GeneralisedGaussian,
    SecondLaw,
    SmallerVariance,
    Truncation,
)
from phalanx.smoothing.double_sampling.radius import plain_radii
from phalanx.smoothing.radii import UsesSecondLaw

Floats = NDArray[np.float64]
BoxesOf = Callable[..., Boxes]
"""As `phalanx.smoothing.double_sampling.boxes.boxes_from_counts`."""

ALPHA, SAMPLES = 0.1, (40, 30)
NEGLIGIBLE = 1e-5
LAWS: dict[str, tuple[GeneralisedGaussian, SecondLaw]] = {
    "gaussian, smaller variance": (GeneralisedGaussian(12, 0, 1.0), SmallerVariance(0.8)),
    "gaussian, truncation": (GeneralisedGaussian(12, 0, 1.0), Truncation(0.5)),
    "order 380, smaller variance": (GeneralisedGaussian(784, 380, 0.5), SmallerVariance(0.4)),
    "order 380, truncation": (GeneralisedGaussian(784, 380, 0.5), Truncation(0.6)),
}


@dataclass(frozen=True)
class World:
    """A set: its probability under P and Q, and the distance at which it loses its majority."""

    p: float
    q: float
    distance: float


def half_space(law: GeneralisedGaussian, second: SecondLaw, p: float) -> World:
    """The noises below a plane, which the plane's distance tells all about."""
    lengths, narrow = _lengths(law, second)

    def below(along: float, length: Floats) -> float:
        return float(np.mean(_cap(law, along / length)))

    along = brentq(lambda a: below(a, lengths) - p, 0.0, 20 * law.sigma, xtol=1e-13)
    return World(p, below(along, narrow), float(along))


def slab(law: GeneralisedGaussian, second: SecondLaw, p: float) -> World:
    """The noises between two planes."""
    lengths, narrow = _lengths(law, second)

    def between(half: float, length: Floats, moved: float = 0.0) -> float:
        ends = _cap(law, (half - moved) / length) - _cap(law, (-half - moved) / length)
        return float(np.mean(ends))

    half = brentq(lambda a: between(a, lengths) - p, 0.0, 20 * law.sigma, xtol=1e-13)
    lost = brentq(lambda a: between(half, lengths, a) - 0.5, 0.0, 20 * law.sigma, xtol=1e-13)
    return World(p, between(half, narrow), float(lost))


def ball(law: GeneralisedGaussian, second: SecondLaw, p: float) -> World:
    """The short noises."""
    lengths, narrow = _lengths(law, second)
    radius = float(law.unit * math.sqrt(gamma.ppf(p, law.shape)))

    def kept(moved: float) -> float:
        cosine = (radius**2 - lengths**2 - moved**2) / (2 * lengths * moved)
        return float(np.mean(_cap(law, cosine)))

    lost = brentq(lambda a: kept(a) - 0.5, 1e-3 * law.sigma, 20 * radius, xtol=1e-12)
    return World(p, float(np.mean(narrow < radius)), float(lost))


def worst(law: GeneralisedGaussian, second: SecondLaw, far: float, ratio: float) -> World:
    """The noises where P moved by ``far`` sigma is below ``l1 P + l2 Q``, l2 / l1 = ``ratio``.

    Both are scaled until the set has just one half of the moved law. No set of the same
    probabilities under P and Q has less of it.
    """
    distance, (t, mass) = far * law.sigma, _mass_of_t(law, second)
    narrow = _narrow(law, second, t)

    def parts(scale: float) -> tuple[float, float, float]:
        """P, Q and the moved law of the set, from the angle it ends at for every length."""
        last = _last_cosine(law, t, scale * (1 + ratio * narrow), distance)
        cap = _cap(law, last)
        u, w = _panels(np.full_like(last, -1.0), last)
        there = _moved_square(law, t[:, None], u, distance)
        moved = (_cosine_density(law, u) * np.exp(_log_ratio(law, t[:, None], there)) * w).sum(1)
        return float(mass @ cap), float(mass @ (narrow * cap)), float(mass @ moved)

    scale = brentq(lambda s: parts(s)[2] - 0.5, 1e-3, 1e3, xtol=1e-13, rtol=1e-12)
    p, q, _ = parts(scale)
    return World(p, q, distance)


def _mass_of_t(law: GeneralisedGaussian, second: SecondLaw) -> tuple[Floats, Floats]:
    """Nodes of the squared length, in units, and what P has at each; none crosses a cut."""
    cut = [second.mass] if isinstance(second, Truncation) else []
    ends = np.sqrt(gamma.ppf([1e-14, *cut, 1 - 1e-14], law.shape))
    r, w = (part.ravel() for part in _panels(ends[:-1], ends[1:], panels=60))
    return r**2, gamma.pdf(r**2, law.shape) * 2 * r * w


def _panels(low: Floats, high: Floats, panels: int = 24) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights between low and high, each ``(rows, nodes)``."""
    x, w = np.polynomial.legendre.leggauss(10)
    edges = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, panels + 1)
    width = np.diff(edges)[:, :, None]
    nodes = edges[:, :-1, None] + width * (x + 1) / 2
    return nodes.reshape(len(low), -1), np.broadcast_to(width * w / 2, nodes.shape).reshape(
        len(low), -1
    )


def _moved_square(law: GeneralisedGaussian, t: Floats, u: Floats, distance: float) -> Floats:
    c = distance / law.unit
    return np.asarray(t + c * c - 2 * c * np.sqrt(t) * u)


def _log_ratio(law: GeneralisedGaussian, t: Floats, there: Floats) -> Floats:
    """Of the moved density to that of P."""
    return np.asarray(t - there - law.k * np.log(there / t))


def _narrow(law: GeneralisedGaussian, second: SecondLaw, t: Floats) -> Floats:
    """The ratio of the densities of Q and P."""
    if isinstance(second, Truncation):
        return np.where(gamma.cdf(t, law.shape) <= second.mass, 1 / second.mass, 0.0)
    squeeze = (law.sigma / second.sigma) ** 2
    return np.asarray(gamma.pdf(t * squeeze, law.shape) * squeeze / gamma.pdf(t, law.shape))


def _last_cosine(law: GeneralisedGaussian, t: Floats, level: Floats, distance: float) -> Floats:
    """Up to which cosine the moved density is below ``level`` times that of P, by bisection."""
    low, high = np.full_like(t, -1.0), np.full_like(t, 1.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = _log_ratio(law, t, _moved_square(law, t, middle, distance)) < np.log(level)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def _cosine_density(law: GeneralisedGaussian, u: Floats) -> Floats:
    return np.asarray(beta.pdf((1 + u) / 2, law.half, law.half) / 2)


@cache
def worlds(name: str) -> dict[str, World]:
    """The worlds of a pair of laws."""
    law, second = LAWS[name]
    found = {f"{make.__name__}": make(law, second, 0.9) for make in (half_space, slab, ball)}
    for far, ratio in ((0.637, 0.5), (1.237, 5.0)):
        found[f"worst set at {far}, {ratio}"] = worst(law, second, far, ratio)
    return found


def coverage(rule: UsesSecondLaw, boxes_of: BoxesOf, name: str) -> None:
    """Over all counts there can be, more than the truth is certified at most alpha of the time."""
    (law, second), (n_p, n_q) = LAWS[name], SAMPLES
    for kind, world in worlds(name).items():
        hits_p, hits_q = np.arange(n_p + 1), np.arange(n_q + 1)
        mass = np.outer(binom.pmf(hits_p, n_p, world.p), binom.pmf(hits_q, n_q, world.q))
        # What is left out is counted as wrong.
        some = np.argwhere(mass > NEGLIGIBLE)
        boxes = boxes_of(some[:, 0], n_p, some[:, 1], n_q, ALPHA, two_sided=False)
        radii = rule.l2_radii(law, second, boxes).radius
        weights = mass[some[:, 0], some[:, 1]]
        wrong = 1 - weights.sum() + weights[radii > world.distance * (1 + 1e-9)].sum()
        assert wrong <= ALPHA, f"{wrong:.4f} for a {kind}"


def never_beyond_a_known_set(rule: UsesSecondLaw, name: str) -> None:
    """Exact probabilities certify no more than what the set itself keeps, and nearly the worst."""
    law, second = LAWS[name]
    known = worlds(name)
    one = np.ones(len(known))
    p, q = (np.array([getattr(world, part) for world in known.values()]) for part in "pq")
    radii = rule.l2_radii(law, second, Boxes(p, one, np.minimum(q, 1.0), one)).radius
    for (kind, world), radius in zip(known.items(), radii.tolist(), strict=True):
        assert radius <= world.distance * (1 + 1e-9), kind
        assert "worst" not in kind or radius >= world.distance * (1 - 1e-3), kind


def never_below_neyman_pearson(rule: UsesSecondLaw, name: str) -> None:
    """A bound under Q costs nothing of what P gives, but for the quadrature's error."""
    law, second = LAWS[name]
    p = np.array([0.51, 0.7, 0.95, 0.999])
    alone = plain_radii(law, p).radius
    for q in (0.0, 0.3, 0.9):
        one = np.ones(len(p))
        found = rule.l2_radii(law, second, Boxes(p, one, q * one, one))
        assert (found.radius >= alone - 3 * (found.error + 1e-6) / law.steepest).all()


@cache
def _lengths(law: GeneralisedGaussian, second: SecondLaw) -> tuple[Floats, Floats]:
    """Equally likely lengths of the noise under both laws."""
    levels = (np.arange(5_000) + 0.5) / 5_000
    wide = law.unit * np.sqrt(gammaincinv(law.shape, levels))
    if isinstance(second, Truncation):
        return wide, law.unit * np.sqrt(gammaincinv(law.shape, levels * second.mass))
    return wide, wide * second.sigma / law.sigma


def _cap(law: GeneralisedGaussian, cosine: Floats) -> Floats:
    """The share of a sphere below a cosine."""
    return np.asarray(beta.cdf((np.clip(cosine, -1, 1) + 1) / 2, law.half, law.half))
