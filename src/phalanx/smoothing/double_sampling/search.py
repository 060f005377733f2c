"""The largest distance at which the dual reaches one half: an untrusted, batched search.

Newton's method in the multipliers inside Newton's method in the distance, all rows together. Its
answer is a proposal; only `certify.py` turns a proposal into a radius.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from phalanx.smoothing.double_sampling.dual import Point, evaluate
from phalanx.smoothing.double_sampling.pairs import Pair

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_INNER, _OUTER = 25, 12
_ENOUGH = 1e-10


@dataclass
class State:
    """A proposal for each row: distance c in units, multipliers l1 and l2, float64 ``(rows,)``."""

    c: Floats
    l1: Floats
    l2: Floats

    def take(self, where: Bools) -> State:
        """Some of the rows, as a copy."""
        return State(self.c[where], self.l1[where], self.l2[where])

    def put(self, where: Bools, part: State) -> None:
        """Write rows back."""
        self.c[where], self.l1[where], self.l2[where] = part.c, part.l1, part.l2


def start(pair: Pair, p_low: Floats) -> State:
    """What a Gaussian of the same level would give: ``c = z``, ``log l1 = z^2 / 2``."""
    z = ndtri(p_low)
    c = z * pair.law.sigma / pair.law.unit
    return State(c, np.exp(z**2 / 2), np.zeros_like(c))


def dual_value(point: Point, box: Floats, l1: Floats, l2: Floats) -> Floats:
    """The dual at given multipliers; box is ``(4, rows)``: pL, pU, qL, qU."""
    q = np.where(l2 >= 0, box[2], box[3])
    return np.asarray(l1 * (box[0] - 1) + l2 * (q - 1) + point.surplus)


def improve(pair: Pair, box: Floats, state: State) -> tuple[State, Floats, Point]:
    """Multipliers that nearly maximise the dual at the given distances.

    Writes into ``state``. What overflows on the way stays a bad proposal.

    Returns:
        The state, the dual and the quadrature there.
    """
    with np.errstate(all="ignore"):
        return _improve(pair, box, state)


def _improve(pair: Pair, box: Floats, state: State) -> tuple[State, Floats, Point]:
    point = evaluate(pair, state.c, state.l1, state.l2)
    value = dual_value(point, box, state.l1, state.l2)
    damp = np.ones_like(value)
    second = pair.kappa > 0 or pair.cut is not None
    active = np.ones(len(value), dtype=bool)
    for _ in range(_INNER):
        d1, d2, gain = _newton(pair, box, state, point, second)
        active &= gain > _ENOUGH
        if not active.any():
            break
        part = pair.rows(active)
        tried = State(
            state.c[active],
            state.l1[active] + (damp * d1)[active],
            state.l2[active] + (damp * d2)[active],
        )
        # A step that crosses a kink stops on it.
        crossed = (tried.l2 * state.l2[active] < 0) | (np.abs(tried.l2) < 1e-14 * tried.l1)
        tried.l2[crossed] = 0.0
        new = evaluate(part, tried.c, tried.l1, tried.l2)
        found = dual_value(new, box[:, active], tried.l1, tried.l2)
        better = found > value[active]
        rows = np.flatnonzero(active)
        damp[rows] = np.where(better, np.minimum(1.0, 4 * damp[rows]), damp[rows] / 4)
        active[rows[(~better) & (damp[rows] < 1e-6)]] = False
        good = rows[better]
        state.l1[good], state.l2[good] = tried.l1[better], tried.l2[better]
        value[good] = found[better]
        for name, found_there in vars(new).items():
            getattr(point, name)[good] = found_there[better]
    return state, value, point


def _newton(
    pair: Pair, box: Floats, state: State, point: Point, second: bool
) -> tuple[Floats, Floats, Floats]:
    """A Newton step, kept inside ``l1 > 0``, and the gain it promises."""
    g1 = box[0] - 1 + point.rejected_p
    up, down = box[2] - 1 + point.rejected_q, box[3] - 1 + point.rejected_q
    l2 = state.l2
    g2 = np.where(l2 > 0, up, np.where(l2 < 0, down, np.where(up > 0, up, np.minimum(down, 0.0))))
    tiny = 1e-300
    alone = g1 / np.maximum(point.h11, tiny)
    determinant = point.h11 * point.h22 - point.h12**2
    free = second & (g2 != 0) & (determinant > 1e-14 * point.h11 * point.h22)
    safe = np.where(free, determinant, 1.0)
    d1 = np.where(free, (point.h22 * g1 - point.h12 * g2) / safe, alone)
    d2 = np.where(free, (point.h11 * g2 - point.h12 * g1) / safe, 0.0)
    # From a kink the step has to go to the side whose slope led away from it.
    wrong = (l2 == 0) & (d2 * g2 < 0)
    d1, d2 = np.where(wrong, alone, d1), np.where(wrong, 0.0, d2)
    scale = np.ones_like(d1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.minimum(scale, np.where(d1 < 0, 0.7 * state.l1 / -d1, np.inf))
        scale = np.minimum(scale, np.where(d1 > 0, 4 * state.l1 / d1, np.inf))
        if pair.mass is not None:
            inner = state.l1 + l2 / pair.mass[:, 0]
            move = d1 + d2 / pair.mass[:, 0]
            scale = np.minimum(scale, np.where(move < 0, 0.7 * inner / -move, np.inf))
            scale = np.minimum(scale, np.where(move > 0, 4 * inner / move, np.inf))
    d1, d2 = scale * d1, scale * d2
    return d1, d2, np.abs(g1 * d1) + np.abs(g2 * d2)


def propose(pair: Pair, box: Floats, state: State) -> State:
    """Distances at which the best dual is about one half, and the multipliers there.

    Writes into ``state`` and returns it.
    """
    active = np.ones(len(state.c), dtype=bool)
    for _ in range(_OUTER):
        part, rows = state.take(active), np.flatnonzero(active)
        part, value, point = improve(pair.rows(active), box[:, active], part)
        step = (0.5 - value) / np.minimum(point.slope, -1e-12)
        step = np.clip(step, -0.5 * part.c, 0.5 * part.c)
        part.c = part.c + step
        state.put(active, part)
        active[rows[np.abs(step) < 1e-8 * part.c]] = False
        if not active.any():
            break
    return state
