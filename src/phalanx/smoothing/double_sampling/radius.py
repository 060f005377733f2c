"""From confidence boxes to radii that were verified.

`search.py` proposes a distance and multipliers, `certify.py` evaluates the dual there with its
error bound, and the distance is reduced until it exceeds one half. A certificate speaks of a whole
ball:

* where ``l2 >= 0`` the density ``M = l1 p + l2 q`` falls with the radius, as p does. Then
  ``H = integral of M - integral of min(M(x), p(x - delta))``, the minimum is an integral over
  levels of the volume in which two balls meet, and that falls as their centres part: with the
  same multipliers every smaller distance is certified too.
* where ``l2 < 0`` M need not fall. Then a chain of verified distances covers the ball: a
  probability changes at most by `GeneralisedGaussian.steepest` a unit of length, so a distance
  whose bound exceeds one half by v also certifies the next ``v / steepest``. The chain begins at
  the radius of Neyman-Pearson, for which the first argument holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phalanx.smoothing.double_sampling.boxes import Boxes, possible
from phalanx.smoothing.double_sampling.certify import lower_bound
from phalanx.smoothing.double_sampling.dual import evaluate
from phalanx.smoothing.double_sampling.laws import GeneralisedGaussian, SecondLaw
from phalanx.smoothing.double_sampling.pairs import Pair, pair_of
from phalanx.smoothing.double_sampling.search import State, dual_value, improve, propose, start

Floats = NDArray[np.float64]
CHUNK = 32
"""Rows computed together: their arrays stay in a core's cache."""

_TRIES = 12
_LINKS = 60
_DOWN = 1 - 1e-12
_NEAREST_ONE = 1 - 1e-9


@dataclass(frozen=True)
class Certified:
    """What was verified for each row, float64 ``(rows,)``; 0 and NaN where nothing was.

    Attributes:
        radius: of the open l2 ball in input units, rounded down.
        bound: the verified lower bound of the class's probability at the last distance that was
            evaluated: the radius or, where ``l2 < 0``, the last link of the chain before it.
        error: of the quadrature: by how much the bound lies below the dual's approximate value.
        l1, l2: the multipliers that prove it; ``l2 = 0`` is Neyman-Pearson.
    """

    radius: Floats
    bound: Floats
    error: Floats
    l1: Floats
    l2: Floats

    @classmethod
    def none(cls, rows: int) -> Certified:
        """Nothing certified."""
        return cls(np.zeros(rows), *(np.full(rows, np.nan) for _ in range(4)))


def certified_radii(
    law: GeneralisedGaussian, second: SecondLaw | Sequence[SecondLaw], boxes: Boxes
) -> Certified:
    """The largest radii that double sampling certifies.

    Args:
        second: one law for all rows, or one for each (all truncations).

    Raises:
        ParameterError: laws that do not go together, or as many as there are no rows.

    >>> from phalanx.smoothing.double_sampling.laws import SmallerVariance
    >>> box = Boxes([0.977518182882724], [0.9819193784869186],
    ...             [0.9937839489956886], [0.9960074655232721])
    >>> found = certified_radii(GeneralisedGaussian(784, 380, 0.5), SmallerVariance(0.4), box)
    >>> bool(found.radius[0] > 1.0), bool(found.bound[0] > 0.5)
    (True, True)
    """
    pair = pair_of(law, second, len(boxes))
    return _all_rows(pair, boxes, possible(pair, boxes))


def plain_radii(law: GeneralisedGaussian, p_low: Floats) -> Certified:
    """Neyman-Pearson radii for lower bounds on the probability under P alone.

    >>> from scipy.special import ndtri
    >>> found = plain_radii(GeneralisedGaussian(20, 0, 0.5), np.array([0.9, 0.5]))
    >>> bool(0 < 0.5 * ndtri(0.9) - found.radius[0] < 1e-4), float(found.radius[1])
    (True, 0.0)
    """
    p_low = np.atleast_1d(np.asarray(p_low, dtype=np.float64))
    one, zero = np.ones_like(p_low), np.zeros_like(p_low)
    boxes = Boxes(p_low, one, zero, one)
    return _all_rows(Pair(law), boxes, np.ones(len(p_low), dtype=bool))


def _all_rows(pair: Pair, boxes: Boxes, wanted: NDArray[np.bool_]) -> Certified:
    """Every distinct row once, a chunk at a time."""
    result = Certified.none(len(boxes))
    box = boxes.stacked()
    # A bound so near 1 that its logarithms are lost is taken a little lower.
    box[[0, 2]] = np.minimum(box[[0, 2]], _NEAREST_ONE)
    rows = np.flatnonzero(wanted & (box[0] > 0.5))
    if not len(rows):
        return result
    mass = np.zeros((1, len(box[0]))) if pair.mass is None else pair.mass.T
    keys = np.concatenate([box, mass])[:, rows].T
    # In order of p, so that rows of a chunk need about the same number of steps.
    _, first, where = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    unique = rows[first]
    found = Certified.none(len(unique))
    for begin in range(0, len(unique), CHUNK):
        part = unique[begin : begin + CHUNK]
        chunk = _chunk(pair.rows(part), box[:, part])
        for name in vars(found):
            getattr(found, name)[begin : begin + CHUNK] = getattr(chunk, name)
    for name in vars(found):
        getattr(result, name)[rows] = getattr(found, name)[where.reshape(-1)]
    return result


def _chunk(pair: Pair, box: Floats) -> Certified:
    plain = propose(pair.plain(), box, start(pair, box[0]))
    if pair.kappa == 0 and pair.cut is None:
        return _verified(pair, box, plain)
    best = propose(pair, box, plain.take(np.ones(len(plain.c), dtype=bool)))
    result = _verified(pair, box, best)
    bent = best.l2 < 0
    if bent.any():
        base = _verified(pair.rows(bent).plain(), box[:, bent], plain.take(bent))
        linked = _chain(pair.rows(bent), box[:, bent], best.take(bent), base)
        for name in vars(result):
            getattr(result, name)[bent] = getattr(linked, name)
    lost = result.radius == 0
    if lost.any():
        base = _verified(pair.rows(lost).plain(), box[:, lost], plain.take(lost))
        for name in vars(result):
            getattr(result, name)[lost] = getattr(base, name)
    return result


def _verified(pair: Pair, box: Floats, state: State) -> Certified:
    """The proposals, each moved towards 0 until the lower bound exceeds one half."""
    result = Certified.none(len(state.c))
    point = evaluate(pair, state.c, state.l1, state.l2)
    slope = np.maximum(-point.slope, 1e-3)
    c, back = state.c.copy(), np.zeros_like(state.c)
    active = np.isfinite(c) & (c > 0)
    for _ in range(_TRIES):
        if not active.any():
            break
        rows = np.flatnonzero(active)
        part, l1, l2 = pair.rows(rows), state.l1[rows], state.l2[rows]
        bound = lower_bound(part, box[:, rows], c[rows], l1, l2)
        good = bound > 0.5
        done = rows[good]
        result.radius[done] = c[done] * pair.law.unit * _DOWN
        result.bound[done], result.l1[done], result.l2[done] = bound[good], l1[good], l2[good]
        active[done] = False
        missed = np.where(np.isfinite(bound), 0.5 - bound, 1.0)[~good]
        again = rows[~good]
        back[again] = np.maximum(2 * back[again], 1.02 * missed / slope[again] + 1e-9 * c[again])
        c[again] = np.where(back[again] < c[again], c[again] - back[again], c[again] / 2)
    reached = result.radius > 0
    if reached.any():
        part = pair.rows(reached)
        l1, l2 = state.l1[reached], state.l2[reached]
        value = dual_value(evaluate(part, c[reached], l1, l2), box[:, reached], l1, l2)
        result.error[reached] = np.maximum(value - result.bound[reached], 0.0)
    return result


def _chain(pair: Pair, box: Floats, best: State, base: Certified) -> Certified:
    """From the radii of ``base`` outward, each link verified, towards the proposals."""
    result = Certified(*(getattr(base, name).copy() for name in vars(base)))
    unit, steepest = pair.law.unit, pair.law.steepest
    active = (base.radius > 0) & (base.radius < best.c * unit)
    for _ in range(_LINKS):
        if not active.any():
            break
        rows = np.flatnonzero(active)
        part = pair.rows(rows)
        at = State(result.radius[rows] / unit, best.l1[rows], best.l2[rows])
        at, value, _ = improve(part, box[:, rows], at)
        bound = lower_bound(part, box[:, rows], at.c, at.l1, at.l2)
        gain = (bound - 0.5) / steepest * (1 - 1e-9)
        grown = np.isfinite(gain) & (gain > 1e-6 * unit * at.c)
        done = rows[grown]
        result.bound[done], result.error[done] = bound[grown], (value - bound)[grown]
        result.l1[done], result.l2[done] = at.l1[grown], at.l2[grown]
        result.radius[done] = (result.radius[done] + gain[grown]) * _DOWN
        active[rows[~grown]] = False
    return result
