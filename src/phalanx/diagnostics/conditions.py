"""DRT's conditions for the robustness of an ensemble, as pure functions of numbers.

Source: Yang, Li, Xu, Kailkhura, Xie, Li, "On the certified robustness for ensemble models and
beyond" (ICLR 2022, arXiv 2107.10873).

Let f_i(x) be the *smoothed* confidences of member i and ``f_i^{a/b} = (f_i)_a - (f_i)_b`` a
margin. Each output is beta-smooth (its gradient moves by at most beta times the distance), so
a margin is 2 beta-smooth, and F = sum_i w_i f_i^{a/b} with W = sum_i w_i is 2 beta W-smooth.
Taylor's theorem then bounds F at distance r by ``m -/+ g r -/+ beta W r^2``, with m and g the
margin and the norm of its gradient at the input:

* sufficient: F stays positive within r if ``g <= m / r - beta W r``;
* necessary: if F stays positive within r, then ``g <= m / r + beta W r``.

A weighted ensemble (WE) keeps class y0 exactly where F > 0 for every other class. In a
max-margin ensemble (MME) of two, ``f_1^{y0/y1} + f_2^{y0/y2} > 0`` for all y1, y2 is
sufficient (a member that is wrong then has the smaller margin), and necessary while y0 is
among the two largest outputs of each member; its weights are (1, 1), so W = 2.

All of it speaks of the classifier ``argmax`` of smoothed *confidences*, not of the hard vote
that is certified. From sampled margins and gradients every radius is an estimate, never a
certificate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phalanx.errors import ParameterError

Floats = NDArray[np.float64]

SMOOTHNESS: Mapping[str, float] = {"tight": math.sqrt(2 / (math.pi * math.e)), "paper": 2.0}
"""beta sigma^2 of one output with values in [0, 1] under Gaussian smoothing.

The second derivative along u is ``E[f (z^2 - 1)] / sigma^2`` with z = u . eps / sigma standard
normal. Over 0 <= f <= 1 it is largest for f = 1{|z| > 1}: ``2 phi(1) = 0.4839``. The paper
uses 2.
"""

_BISECTIONS = 80
_LEAST_ALIGNMENT = 1e-9


def smoothness(sigma: float, constant: str = "tight") -> float:
    """beta of one smoothed output: a key of `SMOOTHNESS` over sigma squared.

    Raises:
        ParameterError: sigma is no positive finite number, or there is no such constant.

    >>> round(smoothness(0.5), 5), smoothness(0.5, "paper")
    (1.93577, 8.0)
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ParameterError(f"sigma is {sigma!r}", why="a smoothness needs a positive noise level")
    if constant not in SMOOTHNESS:
        raise ParameterError(
            f"no smoothness constant {constant!r}", repair=f"one of {', '.join(SMOOTHNESS)}"
        )
    return SMOOTHNESS[constant] / sigma**2


def sufficient_radius(
    margin: ArrayLike, gradient: ArrayLike, beta: float, weight: float = 1.0
) -> Floats:
    """r_suf: within it the margin stays positive (the sufficient condition solved for r).

    The positive root of ``beta W r^2 + g r - m = 0``, written without cancellation.

    Args:
        margin: m at the input, any shape.
        gradient: g >= 0 there, the same shape.
        beta: smoothness of one output, positive.
        weight: W, the sum of the weights, positive.

    Returns:
        float64 of that shape; 0 where the margin is not positive.

    Raises:
        ParameterError: NaN, a negative gradient, or beta or W that is not positive.

    >>> round(float(sufficient_radius(0.8, 0.5, smoothness(0.5))), 4)
    0.5266
    >>> float(sufficient_radius(-0.1, 0.5, 1.0))
    0.0
    """
    m, g = _checked(margin, gradient, beta, weight)
    m = np.maximum(m, 0.0)
    below = g + np.sqrt(g * g + 4 * beta * weight * m)
    return np.divide(2 * m, below, out=np.zeros_like(below), where=below > 0)


def necessary_radius(
    margin: ArrayLike, gradient: ArrayLike, beta: float, weight: float = 1.0
) -> Floats:
    """r_nec: beyond it the margin cannot stay positive (the necessary condition).

    The smaller root of ``beta W r^2 - g r + m = 0``. Arguments and errors are those of
    `sufficient_radius`.

    Returns:
        float64; infinite where the curvature could hold the margin up at every distance, 0
        where the margin is not positive.

    >>> round(float(necessary_radius(0.1, 1.0, smoothness(0.5))), 4)
    0.1356
    >>> float(necessary_radius(0.8, 0.5, smoothness(0.5)))
    inf
    """
    m, g = _checked(margin, gradient, beta, weight)
    m = np.maximum(m, 0.0)
    square = g * g - 4 * beta * weight * m
    below = g + np.sqrt(np.maximum(square, 0.0))
    root = np.divide(2 * m, below, out=np.full_like(below, np.inf), where=square > 0)
    return np.where(m == 0, 0.0, root)


@dataclass(frozen=True)
class AgainstBase:
    """What the ensemble-against-base theorem says about one input; absent where it is silent.

    Attributes:
        base: r, a radius within which every member keeps the class.
        radius: what the ensemble then keeps it within; None where a premise fails.
        slack: D, see `ensemble_against_base`.
        limit: the factor without slack, ``(1 - C (1 - cos theta))^(-1/2)``.
        reach: the largest r at which the theorem promises no less than r. There
            ``D = (limit - 1) / (limit + 1)``, so it is the root of that times ``m_i / beta``.
        reason: the premise that fails; empty where none does.
    """

    base: float
    radius: float | None = None
    slack: float | None = None
    limit: float | None = None
    reach: float | None = None
    reason: str = ""

    @property
    def factor(self) -> float | None:
        """``radius / base``: what diversity promises over the weakest member."""
        return None if self.radius is None else self.radius / self.base


NOT_THE_CLASS = "a member does not give the class"
TOO_MUCH_SLACK = "the smoothness slack D is not below 1"


def pair_alignment(first: ArrayLike, second: ArrayLike, cosine: ArrayLike) -> Floats:
    """``sqrt(1 - C (1 - cos theta))`` with ``C = 2 |a| |b| / (|a| + |b|)^2``.

    It is ``|a + b| / (|a| + |b|)``: 1 for gradients that agree, 0 for opposite equal ones.
    The norms are those of the weighted gradients. Where both are 0 nothing is aligned: 0.

    >>> float(pair_alignment(1.0, 1.0, 1.0)), round(float(pair_alignment(1.0, 1.0, 0.0)), 4)
    (1.0, 0.7071)
    """
    a, b, cos = (np.asarray(value, np.float64) for value in (first, second, cosine))
    if not bool(np.all((a >= 0) & (b >= 0) & (np.abs(cos) <= 1))):
        raise ParameterError("norms below 0, a cosine beyond 1, or NaN")
    whole = (a + b) ** 2
    share = np.divide(2 * a * b, whole, out=np.zeros_like(whole * cos), where=whole > 0)
    return np.where(whole > 0, np.sqrt(np.maximum(1 - share * (1 - cos), 0.0)), 0.0)


def ensemble_against_base(
    base: float,
    member_margins: ArrayLike,
    margin: ArrayLike,
    alignment: ArrayLike,
    beta: float,
    *,
    weight: float = 1.0,
) -> AgainstBase:
    """The paper's theorem: members robust within r make an ensemble robust within

        R = r (1 - D) / (1 + D) (1 - C (1 - cos theta))^(-1/2).

    Premises: every member keeps the class within r, and what smoothness can add is at most a
    share D < 1 of the margin, for the members at r and for the ensemble at R:

        beta r^2 <= D m_i,     beta W R^2 <= D m.

    Proof. A member's necessary condition gives ``|g_i| <= m_i / r + beta r <= (1 + D) m_i / r``.
    So ``g = alignment sum_i w_i |g_i| <= alignment (1 + D) m / r = (1 - D) m / R``, which is at
    most ``m / R - beta W R``: the ensemble's sufficient condition at R. D is the smallest number
    that meets the premises; the second one ties it to R, which falls as D grows, so it is found
    by bisection. The proof holds for any number of members.

    Args:
        base: r, positive where every member gives the class.
        member_margins: m_i ``(members, ...)``, an entry for each choice of other classes.
        margin: ``sum_i w_i m_i``, of shape ``(...)``.
        alignment: ``|sum_i w_i g_i| / sum_i w_i |g_i|`` in [0, 1], of shape ``(...)``.
        beta, weight: as in `sufficient_radius`.

    Returns:
        What holds for all choices of classes: the smallest R, with its D and limit, and the
        smallest reach.

    Raises:
        ParameterError: NaN, or numbers out of range.

    >>> found = ensemble_against_base(0.1, [0.9, 0.9], 0.9, pair_alignment(1, 1, 0), 1.9)
    >>> round(found.slack, 4), round(found.factor, 3), round(found.limit, 3)
    (0.0365, 1.315, 1.414)
    >>> ensemble_against_base(0.0, [-0.1, 0.9], 0.4, 1.0, 1.9).reason
    'a member does not give the class'
    """
    each = np.asarray(member_margins, np.float64)
    each = each.reshape(len(each), -1)
    m, share = np.ravel(np.asarray(margin, np.float64)), np.ravel(np.asarray(alignment, np.float64))
    _checked(m, share, beta, weight)
    if not (0 <= base < math.inf) or bool(np.isnan(each).any()) or bool((share > 1 + 1e-9).any()):
        raise ParameterError(f"no theorem for base radius {base!r} and such margins or alignments")
    if base == 0 or bool((each <= 0).any()):
        return AgainstBase(base, reason=NOT_THE_CLASS)
    share = np.clip(share, _LEAST_ALIGNMENT, 1.0)
    reach = float(np.sqrt((1 - share) / (1 + share) * each.min(0) / beta).min())
    of_members = beta * base**2 / each.min(0)
    slack = np.maximum(of_members, _ensemble_slack(beta * weight * (base / share) ** 2 / m))
    if bool((slack >= 1).any()):
        most = float(slack.max())
        return AgainstBase(base, slack=most, reach=reach, reason=TOO_MUCH_SLACK)
    radii = base / share * (1 - slack) / (1 + slack)
    worst = int(radii.argmin())
    return AgainstBase(
        base, float(radii[worst]), float(slack[worst]), float(1 / share[worst]), reach
    )


def _ensemble_slack(pull: Floats) -> Floats:
    """The smallest D with ``pull ((1 - D) / (1 + D))^2 <= D``, from above."""
    low, high = np.zeros_like(pull), np.ones_like(pull)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        enough = pull * ((1 - middle) / (1 + middle)) ** 2 <= middle
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def _checked(
    margin: ArrayLike, gradient: ArrayLike, beta: float, weight: float
) -> tuple[Floats, Floats]:
    m, g = np.broadcast_arrays(np.asarray(margin, np.float64), np.asarray(gradient, np.float64))
    if bool((~np.isfinite(m) | ~np.isfinite(g) | (g < 0)).any()):
        raise ParameterError(
            "a margin or gradient norm that is NaN, infinite or negative",
            why="no radius follows from it",
        )
    if not (0 < beta < math.inf and 0 < weight < math.inf):
        raise ParameterError(f"smoothness {beta!r} and weights' sum {weight!r} must be positive")
    return m, g
