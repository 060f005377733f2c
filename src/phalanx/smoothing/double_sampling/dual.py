"""The dual of the worst case, by Gauss-Legendre quadrature: an untrusted search uses it.

Let a class have P(A) in [pL, pU] and Q(A) in [qL, qU]. For all multipliers (l1, l2)

    P(A + delta) >= l1 p^ + l2 q^ - H(l1, l2),   H = sup over sets of l1 P + l2 Q - P(. + delta)

with p^ = pL where l1 >= 0, q^ = qL where l2 >= 0 and qU where l2 < 0 (Li et al. 2022, section 5;
weak duality). The right side is concave in (l1, l2). `certify.py` evaluates it with an error
bound; here its value, slope and curvature are approximations that lead to good multipliers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray

from phalanx.smoothing.double_sampling.geometry import (
    density,
    log_stretch,
    seen_from_centre,
    seen_from_shifted,
    share,
)
from phalanx.smoothing.double_sampling.pairs import Pair

Floats = NDArray[np.float64]
NODES = 128
SEGMENT_NODES = 48
WIDTHS = 9.0
"""Standard deviations of a cosine beyond which the share of a sphere is taken as 0 or 1."""


@cache
def _rule(nodes: int) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = leggauss(nodes)
    return (x + 1) / 2, w / 2


@dataclass(frozen=True)
class Point:
    """What the quadrature finds at given multipliers, all float64 ``(rows,)``.

    Attributes:
        rejected_p, rejected_q: P and Q of what the worst set leaves out.
        surplus: ``l1 + l2 - H``, so that the dual is ``l1 (p^-1) + l2 (q^-1) + surplus``.
        slope: of the surplus in c.
        h11, h12, h22: curvature, the second derivatives of H.
    """

    rejected_p: Floats
    rejected_q: Floats
    surplus: Floats
    slope: Floats
    h11: Floats
    h12: Floats
    h22: Floats


def zero_of_lambda(pair: Pair, l1: Floats, l2: Floats) -> Floats:
    """Where ``l1 + l2 q/p`` changes its sign (Q of smaller variance, l2 < 0); 0 if nowhere."""
    if pair.kappa == 0:
        return np.zeros_like(l1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (pair.kappa0 + np.log(-l2 / l1)) / pair.kappa
    return np.where((l2 < 0) & (found > 0), found, 0.0)


def evaluate(pair: Pair, c: Floats, l1: Floats, l2: Floats) -> Point:
    """All of `Point` at distances c and multipliers ``l1 >= 0``, ``l2``, each ``(rows,)``."""
    c, l1, l2 = (value[:, None] for value in (c, l1, l2))
    t, weights, ratio = _nodes(pair, l1, l2)
    value = l1 + l2 * ratio
    accepting = value > 0
    safe = np.where(accepting, value, 1.0)
    stretch_log = log_stretch(t, np.log(safe), pair.law.k)
    stretch = np.expm1(stretch_log)
    half = pair.law.half
    seen = seen_from_centre(t, stretch, c)
    rejected = np.where(accepting, share(half, -seen), 1.0)
    mass = weights * pair.gamma(t)
    boundary = np.where(accepting, density(half, seen), 0.0) * mass
    # Moving log Lambda moves the boundary's angle by this much.
    psi = 1 / (t + pair.law.k * np.exp(-stretch_log))
    turn = np.sqrt(t) * psi / (4 * c * safe)
    tau = t * np.exp(stretch_log)
    other = seen_from_shifted(t, tau, c)
    along = np.where(accepting, share(half, other), 0.0)
    bend = -pair.kappa * (1 - l1 / safe) if pair.kappa else 0.0
    run = psi * (pair.law.k + t - t * bend)
    flow = np.where(accepting, weights * pair.gamma(tau) * run, 0.0)
    shifted = (along * flow).sum(1)
    moved = density(half, other) * (t * stretch - c * c) / (4 * c * c * np.sqrt(tau)) * flow
    moved -= boundary * value * (c * c + t * stretch) / (4 * c * c * np.sqrt(t))
    slope = moved.sum(1)
    if pair.cut is not None:
        extra, extra_slope = _segment(pair, c, l1, l2)
        shifted, slope = shifted + extra, slope + extra_slope
    curve = boundary * turn
    zero = zero_of_lambda(pair, l1, l2)
    out_p, out_q = (part[:, 0] for part in pair.below(zero))
    rejected_p = (rejected * mass).sum(1) + out_p
    rejected_q = (rejected * mass * ratio).sum(1) + out_q
    return Point(
        rejected_p,
        rejected_q,
        l1[:, 0] * rejected_p + l2[:, 0] * rejected_q + shifted,
        slope,
        curve.sum(1),
        (curve * ratio).sum(1),
        (curve * ratio**2).sum(1),
    )


def _nodes(pair: Pair, l1: Floats, l2: Floats) -> tuple[Floats, Floats, Floats]:
    """Nodes t, weights in dt and q/p there, each broadcastable to ``(rows, nodes)``.

    t grows with the square of the node: the densities live on the scale of ``sqrt t``, and
    where Lambda begins at 0 everything vanishes faster than any power.
    """
    x, w = _rule(NODES)
    if pair.cut is None or pair.mass is None:
        low = np.maximum(pair.bottom, zero_of_lambda(pair, l1, l2))
        span = np.maximum(pair.top - low, 0.0)
        t = low + span * x**2
        return t, span * 2 * x * w, np.exp(pair.kappa0 - pair.kappa * t)
    parts, ends = [], (np.full_like(l1, pair.bottom), pair.cut, np.full_like(l1, pair.top))
    for begin, end in pairwise(ends):
        a, b = np.sqrt(begin), np.sqrt(end)
        root = a + (b - a) * x
        parts.append((root**2, 2 * root * (b - a) * w))
    t = np.concatenate([parts[0][0], parts[1][0]], axis=1)
    weights = np.concatenate([parts[0][1], parts[1][1]], axis=1)
    inside = np.arange(2 * NODES) < NODES
    return t, weights, np.where(inside, 1 / pair.mass, 0.0)


def jump(pair: Pair, c: Floats, l1: Floats, l2: Floats) -> tuple[Floats, Floats, Floats]:
    """``tau`` on both sides of the cut, kept where the share of a sphere is not yet 0.

    Args:
        c, l1, l2: ``(rows, 1)``.

    Returns:
        tau inside, tau outside, and the largest tau they were kept to.
    """
    cut, mass = pair.cut, pair.mass
    if cut is None or mass is None:
        return np.zeros_like(c), np.zeros_like(c), np.zeros_like(c)
    lean = c * WIDTHS / np.sqrt(pair.law.d)
    last = np.square(lean + np.sqrt(np.maximum(np.square(lean) + cut - c * c, 0.0)))
    ends = []
    for value in (l1 + l2 / mass, l1):
        with np.errstate(divide="ignore"):
            log = np.where(value > 0, np.log(np.where(value > 0, value, 1.0)), 0.0)
        tau = cut * np.exp(log_stretch(cut, log, pair.law.k))
        ends.append(np.where(value > 0, np.minimum(tau, last), last))
    return ends[0], ends[1], last


def _segment(pair: Pair, c: Floats, l1: Floats, l2: Floats) -> tuple[Floats, Floats]:
    """What the jump of Lambda at the cut adds to P(A + delta), and its slope in c."""
    if pair.cut is None:
        return np.zeros(len(c)), np.zeros(len(c))
    x, w = _rule(SEGMENT_NODES)
    first, last, _ = jump(pair, c, l1, l2)
    tau = first + (last - first) * x
    seen = seen_from_shifted(pair.cut, tau, c)
    mass = pair.gamma(tau) * w * (last - first)
    turn = (tau - pair.cut - c * c) / (4 * c * c * np.sqrt(tau))
    half = pair.law.half
    return (share(half, seen) * mass).sum(1), (density(half, seen) * turn * mass).sum(1)
