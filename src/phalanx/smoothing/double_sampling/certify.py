"""The dual with an error bound: what decides whether a distance is certified.

H of `dual.py` is split into cells of the radius. In a cell the accepted share F of a sphere and
the mass M it is integrated over are known at both ends, and their slopes lie in intervals that are
computed over the whole cell (`_intervals.py`). With ``F' in D +- dD``, ``M' in G +- dG``, width h
and the chord's slope ``S = (F_b - F_a) / h``,

    |integral of F dM - (F_a + F_b)/2 (M_b - M_a)| <= h^2/4 (|S| dG + dD (|G| + dG)).

For F is its chord plus some e. Between two zeros of e, l apart, it stays inside a triangle whose
sides have the extreme slopes and whose area is at most ``l^2 dD / 4``; all of them together make
at most ``h^2 dD / 4``. The chord is symmetric about the middle, where a constant M' cancels it,
and what is left of M' is at most dG. The bound shrinks with the square of h. A cruder one is used
where it is smaller: F strays from its mean by at most 1, or half its rise where it is monotone.

The mass accepted around the shifted centre is an integral along the boundary (`geometry.py`)::

    P(A + delta) = integral over t of I(z(t, tau(t))) dGamma(tau(t))

signed where tau falls with t, and with an upright piece where Lambda jumps. What lies outside the
cells is charged: counted as accepted in H's first part, as not accepted in P(A + delta).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phalanx.smoothing.double_sampling._intervals import Interval
from phalanx.smoothing.double_sampling.dual import jump, zero_of_lambda
from phalanx.smoothing.double_sampling.geometry import (
    density,
    log_stretch,
    seen_from_centre,
    seen_from_shifted,
    share,
)
from phalanx.smoothing.double_sampling.pairs import Pair

Floats = NDArray[np.float64]
CELLS = 1024
ROUNDING = 1e-11
"""Charged for floating point, times ``1 + |l1| + |l2|``: the special functions are good to some
1e-13 of their value, and the sums of 1024 such terms with total mass ``|l1| + |l2|`` to less."""

OFFSET_ROUNDING = 2.0**-51
"""Charged likewise, times the largest density of an offset and ``sqrt(t) / c``. An offset is a
difference of t and tau, each good to some 2**-53 of itself, over ``4 c sqrt(tau)``: at very small
distances what rounding leaves of it counts, and nothing is certified."""


@dataclass(frozen=True)
class Piece:
    """Cells on which Lambda is smooth: ends t, Lambda there, and the mass of each cell.

    Attributes:
        t, value: float64 ``(rows, cells + 1)``; value > 0.
        mass: of ``l1 P + l2 Q`` in each cell, ``(rows, cells)``.
    """

    t: Floats
    value: Floats
    mass: Floats


def lower_bound(
    pair: Pair, box: Floats, c: Floats, l1: Floats, l2: Floats, *, cells: int = CELLS
) -> Floats:
    """At most the dual at distances ``c`` and multipliers ``l1 > 0`` and ``l2``, each ``(rows,)``.

    So a class whose probabilities lie in the box has at least this probability under noise
    that is centred at distance c. NaN (or -inf) where nothing can be said.

    Args:
        box: pL, pU, qL, qU, float64 ``(4, rows)``.
        cells: of the radius; the answer is a bound for any number, and closer for many.
    """
    q = np.where(l2 >= 0, box[2], box[3])
    with np.errstate(all="ignore"):
        rounding = ROUNDING + OFFSET_ROUNDING * density(pair.law.half, np.zeros(1)) * np.sqrt(
            pair.top
        ) / np.abs(c)
    fixed = l1 * (box[0] - 1) + l2 * (q - 1) - rounding * (1 + np.abs(l1) + np.abs(l2))
    c, l1, l2 = (value[:, None] for value in (c, l1, l2))
    fine = (c > 0) & (l1 > 0)
    if pair.mass is not None:
        fine &= l1 + l2 / pair.mass > 0
    total = np.where(fine[:, 0], fixed, -np.inf)
    with np.errstate(all="ignore"):  # what is not a number fails the comparison with one half
        for place, piece in enumerate(_pieces(pair, l1, l2, cells)):
            left_out, moved, given_up = _cells(pair, piece, c, l1)
            total = total + left_out + moved - (given_up if place == 0 else 0.0)
        if pair.cut is not None:
            total = total + _upright(pair, c, l1, l2, cells // 4)
        else:
            below = pair.below(zero_of_lambda(pair, l1, l2))
            total = total + (l1 * below[0] + l2 * below[1])[:, 0]
    return np.asarray(total)


def _pieces(pair: Pair, l1: Floats, l2: Floats, cells: int) -> list[Piece]:
    """Cells that are even in ``sqrt t``, and finer where Lambda begins at 0."""
    if pair.cut is not None and pair.mass is not None:
        grid = np.linspace(0.0, 1.0, cells // 2 + 1)
        inner = _even(np.full_like(l1, pair.bottom), pair.cut, grid)
        outer = _even(pair.cut, np.full_like(l1, pair.top), grid)
        value = l1 + l2 / pair.mass
        pieces = [(inner, value), (outer, l1)]
        return [Piece(t, v + 0 * t, v * _between(pair, t)[0]) for t, v in pieces]
    zero = zero_of_lambda(pair, l1, l2)
    begins = zero > pair.bottom
    top = np.full_like(l1, pair.top)
    plain = _even(np.full_like(l1, pair.bottom), top, np.linspace(0.0, 1.0, cells + 1))
    near = cells // 4
    steps = np.concatenate(
        [np.geomspace(1e-12, 1e-3, near), np.linspace(0.034, 1, cells + 1 - near) ** 2]
    )
    behind = (top - zero) * steps
    t = np.where(begins, zero + behind, plain)
    value = l1 + l2 * np.exp(pair.kappa0 - pair.kappa * t)
    value = np.where(begins, -l1 * np.expm1(-pair.kappa * behind), value)
    p, q = _between(pair, t)
    return [Piece(t, value, l1 * p + l2 * q)]


def _even(low: Floats, high: Floats, grid: Floats) -> Floats:
    a, b = np.sqrt(low), np.sqrt(high)
    return np.asarray(np.square(a + (b - a) * grid))


def _between(pair: Pair, t: Floats) -> tuple[Floats, Floats]:
    """P and Q of the cells, from the side where they are small."""
    low, high = pair.below(t), pair.above(t)
    parts = [
        np.where(b[:, 1:] < 0.5, b[:, 1:] - b[:, :-1], a[:, :-1] - a[:, 1:])
        for b, a in zip(low, high, strict=True)
    ]
    return parts[0], parts[1]


def _cells(pair: Pair, piece: Piece, c: Floats, l1: Floats) -> tuple[Floats, Floats, Floats]:
    """At most what a piece leaves out and what its boundary adds to P(A + delta).

    The third is at least what is lost there because the set is given up below the first cell.
    """
    k, half = pair.law.k, pair.law.half
    t, log = piece.t, np.log(piece.value)
    a, b = t[:, :-1], t[:, 1:]
    width, cell, value = b - a, Interval(a, b), _ends(piece.value)
    node = log_stretch(t, log, k)
    # w is monotone in t and in log Lambda, each for a fixed other: its extremes are at corners.
    corners = [log_stretch(a, log[:, 1:], k), log_stretch(b, log[:, :-1], k)] if pair.kappa else []
    w = Interval.hull(node[:, :-1], node[:, 1:], *corners)
    stretch = w.rising(np.expm1)
    # psi = (1 + E) / (t (1 + E) + k), written so that w appears once.
    over = Interval(np.exp(-w.hi), np.exp(-w.lo)) * float(k)
    psi = Interval(1 / (b + over.hi), 1 / (a + over.lo))
    t_psi = Interval(1 / (1 + over.hi / a), 1 / (1 + over.lo / b))
    ratio = Interval(l1 / value.hi, l1 / value.lo)
    bend = (ratio - 1.0) * pair.kappa  # the slope of log Lambda
    turn = t_psi * (bend + stretch)  # minus t E'
    tau_node = t * np.exp(node)
    run = psi * ((cell * (Interval(1 - bend.hi, 1 - bend.lo))) + float(k))

    seen_node = seen_from_centre(t, np.expm1(node), c)
    roots = cell.rising(np.sqrt) * (4 * c)
    seen_slope = (turn - Interval(c * c / (2 * b), c * c / (2 * a)) - stretch * 0.5) / roots
    rejected = share(half, -seen_node)
    slope = _image(half, seen_node, seen_slope, width) * seen_slope * -1.0
    gamma = cell.peaked(pair.gamma, max(pair.shape - 1, 0.0))
    left_out = _integral(rejected, slope, piece.mass, value * gamma, width)

    tau = _ends(tau_node).widened(run.radius * width / 2)
    tau = Interval(np.maximum(tau.lo, np.exp(w.lo) * a), np.minimum(tau.hi, np.exp(w.hi) * b))
    other_node = seen_from_shifted(t, tau_node, c)
    fall = (cell * stretch + c * c) * run / (tau * 2.0)
    other_slope = (fall - stretch + turn) / (tau.rising(np.sqrt) * (4 * c))
    accepted = share(half, other_node)
    slope = _image(half, other_node, other_slope, width) * other_slope
    flow = tau.peaked(pair.gamma, max(pair.shape - 1, 0.0)) * run
    moved = _integral(accepted, slope, _mass(pair, tau_node), flow, width)
    # Below the first cell the set is given up. Of the spheres around the shifted centre that are
    # large enough to meet it there, none has a larger share of it than the first node's.
    first = np.where(c * c <= a[:, :1] + tau_node[:, :1], accepted[:, :1], 1.0)
    given_up = np.minimum(first, pair.below(a[:, :1])[0])
    return left_out, moved, given_up[:, 0]


def _ends(values: Floats) -> Interval:
    return Interval.hull(values[:, :-1], values[:, 1:])


def _image(half: float, node: Floats, slope: Interval, width: Floats) -> Interval:
    """The density's values over the cell, where the offset is near the line between its ends."""
    return _ends(node).widened(slope.radius * width / 2).peaked(lambda y: density(half, y), 0.0)


def _mass(pair: Pair, tau: Floats) -> Floats:
    """P of ``|x|^2`` between neighbouring tau, negative where tau falls."""
    return _between(pair.plain(), tau)[0]


def _integral(node: Floats, slope: Interval, mass: Floats, flow: Interval, width: Floats) -> Floats:
    """At most the sum over cells of the integral of F dM: the module's formula, ``(rows,)``."""
    mean = (node[:, 1:] + node[:, :-1]) / 2
    rise = np.abs(node[:, 1:] - node[:, :-1])
    high = np.abs(flow.middle) + flow.radius
    error = width / 4 * (rise * flow.radius + width * slope.radius * high)
    # F in [0, 1] is within 1 of the mean of its ends and, where it is monotone, within rise / 2.
    # That is the better bound where tau is so small that the slopes are not.
    strays = np.where((slope.lo >= 0) | (slope.hi <= 0), rise / 2, 1.0)
    moves = np.where((flow.lo >= 0) | (flow.hi <= 0), np.abs(mass), width * high)
    error = np.fmin(error, strays * moves)
    return np.asarray((mean * mass - error).sum(1))


def _upright(pair: Pair, c: Floats, l1: Floats, l2: Floats, cells: int) -> Floats:
    """At most what the jump of Lambda at the cut adds to P(A + delta)."""
    cut, mass = pair.cut, pair.mass
    if cut is None or mass is None:
        return np.zeros(len(c))
    half = pair.law.half
    first, last, kept = jump(pair, c, l1, l2)
    low, high = np.minimum(first, last), np.maximum(first, last)
    tau = low + (high - low) * np.linspace(0, 1, cells + 1)
    a, b = tau[:, :-1], tau[:, 1:]
    cell, width = Interval(a, b), b - a
    node = seen_from_shifted(cut, tau, c)
    slope = (cell + (cut - c * c)) / (cell * cell.rising(np.sqrt) * (8 * c)) * -1.0
    shares = share(half, node)
    drift = _image(half, node, slope, width) * slope
    flow = cell.peaked(pair.gamma, max(pair.shape - 1, 0.0))
    found = np.where(
        first <= last,
        _integral(shares, drift, _mass(pair, tau), flow, width)[:, None],
        _integral(-shares, drift * -1.0, _mass(pair, tau), flow, width)[:, None],
    )
    # `jump` stops where the share is almost 0; what it dropped of a negative piece is charged.
    dropped = np.where(c * c <= cut + tau[:, -1:], shares[:, -1:], 1.0)
    return np.asarray((found - np.where((last < first) & (first >= kept), dropped, 0.0))[:, 0])
