"""How to spend n samples: all on P (Neyman-Pearson), or some on Q, decided before they are drawn.

Double sampling pays for its second interval twice: fewer samples of P, and alpha split over four
sides. Where the count of P is saturated that costs more than Q can give back, and plain
Neyman-Pearson is the better use. The rule predicts both radii as a function of p, and averages
them over what a pilot (the selection samples) leaves open about p:

* a class with probability p is taken as a half-space of that probability under P, whose
  probability under Q follows from geometry. Networks miss less than that under the narrower law:
  ``misses`` (0.7) multiplies the half-space's misses. Published counts of four networks show
  medians from .4 to .9 for p from .8 to .995.
* counts are taken at their expectations, and the radii are the search's, not verified: a plan
  proves nothing and cannot make a certificate wrong. It only has to be made without looking at the
  counts that are certified. The better of two certificates *after* the fact needs alpha / 2 each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, expit, gammaincinv

from phalanx.errors import ParameterError
from phalanx.smoothing.checks import check_count
from phalanx.smoothing.confidence.clopper_pearson import check_alpha
from phalanx.smoothing.double_sampling.boxes import Boxes
from phalanx.smoothing.double_sampling.geometry import share
from phalanx.smoothing.double_sampling.laws import (
    GeneralisedGaussian,
    SecondLaw,
    SmallerVariance,
)
from phalanx.smoothing.double_sampling.pairs import Pair, pair_of
from phalanx.smoothing.double_sampling.search import propose, start

Floats = NDArray[np.float64]
SecondRule = SecondLaw | Callable[[float], SecondLaw]
"""A second law, or how it follows from the pilot's estimate of p (`truncation_mass`)."""

MISSES = 0.7
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Of the samples, for P."""
_GRID = 48
_FAR = 16.0
_RADII = 200


@dataclass(frozen=True)
class Plan:
    """What to draw for one input.

    Attributes:
        n_p, n_q: samples of each law; ``n_q = 0`` is plain Neyman-Pearson at level alpha,
        one-sided.
        plain, double: predicted mean radii of Neyman-Pearson and of the best split, input units.
    """

    n_p: int
    n_q: int
    plain: float
    double: float

    @property
    def is_plain(self) -> bool:
        """Whether everything goes to P."""
        return self.n_q == 0


@dataclass(frozen=True)
class Budget:
    """Predicted radii for a total of ``n`` samples, made once for many inputs.

    Attributes:
        p: probabilities of the class, float64 ``(grid,)``, increasing.
        plain: radius of Neyman-Pearson at each, ``(grid,)``.
        double: radius of each split, ``(shares, grid)``.
        shares: of the samples that go to P.
    """

    n: int
    shares: tuple[float, ...]
    p: Floats
    plain: Floats
    double: Floats

    def choose(self, hits: int, trials: int) -> Plan:
        """The plan with the largest mean radius, given a pilot's votes for the class.

        p is weighted by its Beta posterior from Jeffreys' prior. Ties go to Neyman-Pearson.

        Raises:
            ParameterError: no such counts.
        """
        check_count("the number of pilot samples", trials)
        if not 0 <= hits <= trials:
            raise ParameterError(f"{hits} votes in {trials} pilot samples")
        edges = np.concatenate([[0.5], (self.p[1:] + self.p[:-1]) / 2, [1.0]])
        weights = np.diff(betainc(hits + 0.5, trials - hits + 0.5, edges))
        plain, double = float(weights @ self.plain), self.double @ weights
        best = int(np.argmax(double))
        if double[best] <= plain:
            return Plan(self.n, 0, plain, float(double[best]))
        n_p = round(self.n * self.shares[best])
        return Plan(n_p, self.n - n_p, plain, float(double[best]))


def plan_budget(
    law: GeneralisedGaussian,
    second: SecondRule,
    n: int,
    alpha: float,
    *,
    shares: Sequence[float] = SHARES,
    misses: float = MISSES,
    two_sided: bool = True,
) -> Budget:
    """Predict the radii of every split on a grid of p; a second or two.

    Args:
        n: all samples of one input that are certified, at least 100.
        shares: of them that may go to P, each in (0, 1).
        misses: misses under Q over those of a half-space, in (0, 1].
        two_sided: as in `boxes_from_counts`.

    Raises:
        ParameterError: one of them is out of range.
    """
    check_count("n", n)
    check_alpha(alpha)
    if n < 100 or not shares or not all(0 < part < 1 and 1 <= n * part < n for part in shares):
        raise ParameterError(
            f"{n} samples split at {tuple(shares)}",
            why="there are at least 100, and a share leaves something for each law",
        )
    if not 0 < misses <= 1:
        raise ParameterError(f"misses is {misses!r}", why="it is a ratio in (0, 1]")
    p = np.asarray(expit(np.linspace(0.02, _FAR, _GRID)))
    laws = [second(float(value)) if callable(second) else second for value in p]
    many = laws[0] if isinstance(laws[0], SmallerVariance) else laws
    pair = pair_of(law, many, len(p))
    q = _probability_of_q(pair, p, misses)
    plain = _predicted(pair.plain(), _box(p, n, q, n, alpha))
    side = alpha / 4 if two_sided else alpha / 2
    rows = []
    for part in shares:
        n_p = round(n * part)
        box = _box(p, n_p, q, n - n_p, side, two_sided=two_sided)
        rows.append(_predicted(pair, box))
    return Budget(n, tuple(shares), p, plain, np.stack(rows))


def _probability_of_q(pair: Pair, p: Floats, misses: float) -> Floats:
    """Under Q, of half-spaces with probability p under P, brought nearer to 1."""
    levels = (np.arange(_RADII) + 0.5) / _RADII
    a, half = pair.shape, pair.law.half
    first = np.sqrt(gammaincinv(a, levels))
    if pair.mass is not None:
        second = np.sqrt(gammaincinv(a, levels * pair.mass))
    else:
        second = np.broadcast_to(first / np.sqrt(1 + pair.kappa), (len(p), _RADII))
    low, high = np.zeros(len(p)), np.full(len(p), 40.0 * pair.law.sigma / pair.law.unit)
    for _ in range(60):  # the half-space x_1 < middle
        middle = (low + high) / 2
        missed = share(half, -middle[:, None] / (2 * first)).mean(1)
        low, high = np.where(missed > 1 - p, middle, low), np.where(missed > 1 - p, high, middle)
    return 1 - misses * share(half, -low[:, None] / (2 * second)).mean(1)


def _box(p: Floats, n_p: int, q: Floats, n_q: int, side: float, *, two_sided: bool = True) -> Boxes:
    """The intervals of expected counts, which need not be whole."""
    sides: list[Floats] = []
    for value, n in ((p, n_p), (q, n_q)):
        missed = np.maximum(n * (1 - value), 1e-9)
        sides.append(np.asarray(betaincinv(n * value, missed + 1, side), dtype=np.float64))
        upper = 1 - betaincinv(missed, n * value + 1, side) if two_sided else np.ones_like(value)
        sides.append(np.asarray(upper, dtype=np.float64))
    return Boxes(sides[0], sides[1], sides[2], sides[3])


def _predicted(pair: Pair, boxes: Boxes) -> Floats:
    """The search's radii; 0 where p may be one half."""
    box, found = boxes.stacked(), np.zeros(len(boxes))
    rows = np.flatnonzero(box[0] > 0.5)
    if not len(rows):
        return found
    part, box = pair.rows(rows), box[:, rows]
    state = propose(part.plain(), box, start(part, box[0]))
    if pair.kappa > 0 or pair.cut is not None:
        state = propose(part, box, state)
    found[rows] = np.nan_to_num(state.c) * pair.law.unit
    return found
