"""Double sampling a second time, sharing no code with ``phalanx.smoothing``: a check of the proof.

A certificate of double sampling (Li et al. 2022, arXiv 2206.07912) carries the distance it was
proven at and two multipliers. For any two of them, l1 > 0 and l2 >= 0, a class with at least
``p`` under P and at least ``q`` under Q has, around a centre at that distance, at least

    l1 (p - 1) + l2 (q - 1) + E min(l1 + l2 q(x)/p(x), p(x - delta)/p(x)),   x of the law P

(weak duality). Here the mean is a double integral over the length of x and its angle to delta,
of the densities as they are defined; the code that made the certificate integrates along the
boundary of the worst set instead. With l2 >= 0 a smaller distance is certified too, see
``radius.py`` of ``phalanx.smoothing.double_sampling``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import isclose, isfinite, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainccinv, gammaincinv, gammaln, wrightomega, xlogy

from phalanx.runs.export import truncated
from phalanx.runs.schema import INVALID, Counts

Floats = NDArray[np.float64]
NAME = "double-sampling"
GAUSSIAN = "gaussian"
NOISES = (GAUSSIAN, "generalised-gaussian")
SMALLER_VARIANCE, TRUNCATION = "smaller-variance", "truncation"
SECOND_LAWS = (SMALLER_VARIANCE, TRUNCATION)
PANELS, NODES, ANGLES = 20, 12, 64
WIDTHS = 12.0
"""Standard deviations of a cosine, 1 / sqrt(d), beyond which nothing is integrated."""
_TAIL = 1e-16
_ROUNDED = 3e-6
"""How far, relatively, a radius may have been moved down from the distance it was proven at."""
_QUADRATURE, _KINKS = 1e-5, 2e-2
"""How far the sum of a stored bound and its error may lie below what is found here; in few
dimensions the error is measured from a sum that misses kinks."""
_FEW = 8
_PROOF = ("distance", "bound", "error", "l1", "l2")


class Laws(NamedTuple):
    """The two laws of a run, lengths in its input units.

    Attributes:
        d, k, sigma: dimension, order and level of P.
        kind, level: Q is of level ``level`` (smaller variance), or P cut to the ball of
            probability ``level`` (truncation).
    """

    d: int
    k: int
    sigma: float
    kind: str
    level: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Laws:
        """Those of a run's configuration. Gaussian noise is multiplied by its level in float32."""
        gaussian, kind = config["noise"] == GAUSSIAN, config["second"]
        sigma, level = float(config["sigma"]), float(config["second_level"])
        if gaussian:
            sigma = float(np.float32(sigma))
            level = float(np.float32(level)) if kind == SMALLER_VARIANCE else level
        order = 0 if gaussian else int(config["order"])
        return cls(int(config["dimension"]), order, sigma, kind, level)

    @property
    def unit(self) -> float:
        """The length in which ``|x|^2`` is of the Gamma law of shape ``d/2 - k``."""
        return self.sigma * sqrt(2 * self.d / (self.d - 2 * self.k))


class Found(NamedTuple):
    """What the votes give: of the first law (votes for the class, samples), of the second, if
    it got any, and lower bounds on the class's probabilities at half of alpha each.
    """

    first: tuple[int, int]
    second: tuple[int, int] | None
    p: float
    q: float


def unstated(config: Mapping[str, Any]) -> str:
    """What a run of double sampling does not say and would have to, or nothing."""
    if config.get("certificate") != NAME:
        return ""
    if config.get("second") not in SECOND_LAWS:
        return f"there is no independent code for second {config.get('second')!r}"
    level, split = config.get("second_level"), config.get("split")
    if isinstance(level, bool) or not isinstance(level, int | float) or not level > 0:
        return "the run does not say its second_level"
    sized = isinstance(split, list) and len(split) in (1, config.get("n0", 0) + 1)
    if not sized or not all(type(k) is int and 1 <= k <= config["n"] for k in split or ()):
        return "the run does not say its split"
    return ""


def samples_of_first(config: Mapping[str, Any], selection: Counts) -> int:
    """Samples of the first law, by the votes for the class with most of the selection.

    >>> samples_of_first({"split": [10, 20, 30]}, {7: 2, -1: 0})
    30
    """
    split = config["split"]
    hits = max((v for label, v in selection.items() if label != INVALID), default=0)
    return int(split[0] if len(split) == 1 else split[min(hits, len(split) - 1)])


def problems(details: Mapping[str, Any], found: Found, config: Mapping[str, Any]) -> list[str]:
    """Where a certificate's details are not what the votes, and the proof in them, give."""
    alpha, (_, n_p) = config["alpha"], found.first
    if found.second is None:
        expected: dict[str, Any] = {"n_p": n_p, "n_q": 0, "alpha": {"p": alpha}}
        return _differences(details, expected)
    hits, n_q = found.second
    wrong = _differences(
        details,
        {
            "law": config["second"],
            "level": config["second_level"],
            "n_p": n_p,
            "n_q": n_q,
            "hits_q": hits,
            "alpha": {"p": alpha / 2, "q": alpha / 2},
        },
    )
    for name, lower in (("p", found.p), ("q", found.q)):
        low, high = _pair(details.get(name))
        if not isclose(low, lower, rel_tol=1e-9, abs_tol=1e-12) or high != 1.0:
            wrong.append(f"the interval of {name} is {details.get(name)}, the votes give {lower!r}")
    if wrong or "distance" not in details:
        return wrong
    return _unproven(details, found, config)


def _differences(details: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} of its two laws is {details.get(name)!r}, the run gives {value!r}"
        for name, value in expected.items()
        if details.get(name) != value
    ]


def _pair(value: object) -> tuple[float, float]:
    if isinstance(value, list) and len(value) == 2 and all(_number(part) for part in value):
        return float(value[0]), float(value[1])
    return -1.0, -1.0


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _unproven(details: Mapping[str, Any], found: Found, config: Mapping[str, Any]) -> list[str]:
    """Where the stored multipliers do not prove the stored distance."""
    if not all(_number(details.get(name)) for name in _PROOF):
        return ["its proof is not five numbers"]
    distance, bound, error, l1, l2 = (float(details[name]) for name in _PROOF)
    if not (distance > 0 and l1 > 0 and l2 >= 0 and error >= 0 and bound > 0.5):
        return [f"distance {distance}, multipliers {l1} and {l2}, bound {bound} are no proof"]
    laws = Laws.of(config)
    value = dual(laws, distance, found.p, found.q, (l1, l2))
    slack = _QUADRATURE if laws.d >= _FEW else _KINKS
    if not bound <= value <= bound + error + slack:
        said = f"a bound of {bound!r} with error {error!r}"
        return [f"{said} is stored at distance {distance!r}, its multipliers give {value!r}"]
    return []


def radius(details: Mapping[str, Any], config: Mapping[str, Any]) -> float:
    """The radius of a proof in the run's norm, before it was moved down; 0 without a proof."""
    distance = details.get("distance")
    if not isinstance(distance, int | float) or not isfinite(distance):
        return 0.0
    return float(distance) / (sqrt(config["dimension"]) if config["norm"] == "linf" else 1.0)


def agrees(stored: float, computed: float) -> bool:
    """Whether a stored radius is the one computed here, moved down by rounding at most.

    >>> agrees(0.999999, 1.0), agrees(1.0000001, 1.0), agrees(0.9999, 1.0)
    (True, False, False)
    """
    return computed * (1 - _ROUNDED) <= stored <= computed


def second_law_lines(details: Mapping[str, Any]) -> list[str]:
    """A certificate's second law in words; nothing for other certificates.

    >>> second_law_lines({"n_p": 1000, "n_q": 0})[0]
    'second-law  none: all 1000 samples to the first, which promised the larger radius'
    """
    if "n_q" not in details:
        return []
    if not details["n_q"]:
        said = f"none: all {details['n_p']} samples to the first, which promised the larger radius"
        return [f"second-law  {said}"]
    kind, level, alpha = details["law"], details["level"], details["alpha"]["q"]
    what = {SMALLER_VARIANCE: f"sigma {level:g}", TRUNCATION: f"cut to a ball of mass {level:g}"}
    lower, votes = truncated(details["q"][0], 6), f"{details['hits_q']} of {details['n_q']} votes"
    lines = [
        f"q_lower     {lower}: {votes} under the second law ({what[kind]}), at alpha {alpha:g}"
    ]
    if "distance" in details:
        lines.append(
            f"proof       at l2 distance {truncated(details['distance'], 4)} the class keeps more"
            f" than {truncated(details['bound'], 9)}, after a quadrature error of"
            f" {details['error']:.1e}"
        )
    return lines


def dual(
    laws: Laws, distance: float, p: float, q: float, multipliers: tuple[float, float]
) -> float:
    """The module's lower bound, by Gauss-Legendre quadrature: to 1e-9, in below 8 dimensions 1e-5.

    Args:
        distance: of the centres, in input units, > 0.
        p, q: lower bounds on the class's probabilities.
        multipliers: l1 > 0 and l2 >= 0.

    >>> from statistics import NormalDist
    >>> gaussian, normal = Laws(784, 0, 1.0, SMALLER_VARIANCE, 0.8), NormalDist()
    >>> best = 2.718281828459045 ** (normal.inv_cdf(0.9) * 0.5 - 0.125)
    >>> worst = normal.cdf(normal.inv_cdf(0.9) - 0.5)
    >>> abs(dual(gaussian, 0.5, 0.9, 0.0, (best, 0.0)) - worst) < 1e-8
    True
    """
    l1, l2 = multipliers
    c, total = distance / laws.unit, 0.0
    shape = laws.d / 2 - laws.k
    for low, high, ratio in _stretches(laws, shape):
        t, weight = _lengths(low, high, shape)
        kept = _smaller(laws, t, l1 + l2 * ratio(t), c)
        total += float(weight @ kept)
    return l1 * (p - 1) + l2 * (q - 1) + total


def _stretches(laws: Laws, shape: float) -> list[tuple[float, float, Any]]:
    """Where the ratio q/p is smooth in t, and the ratio there."""
    low, high = float(gammaincinv(shape, _TAIL)), float(gammainccinv(shape, _TAIL))
    if laws.kind == TRUNCATION:
        cut = float(gammaincinv(shape, laws.level))
        inside, outside = 1 / laws.level, 0.0
        return [(low, cut, lambda t: inside + 0 * t), (cut, high, lambda t: outside + 0 * t)]
    squeeze = (laws.sigma / laws.level) ** 2
    low = float(gammaincinv(shape, _TAIL)) / squeeze  # Q is nearer to 0
    return [(low, high, lambda t: np.exp(shape * np.log(squeeze) - (squeeze - 1) * t))]


def _lengths(low: float, high: float, shape: float) -> tuple[Floats, Floats]:
    """Nodes t, even in ``sqrt t``, and the mass of P at each."""
    nodes, weights = _rule(NODES)
    edges = np.linspace(sqrt(low), sqrt(high), PANELS + 1)
    width = np.diff(edges)[:, None]
    r = (edges[:-1, None] + width * nodes).ravel()
    mass = np.exp(xlogy(shape - 1, r * r) - r * r - gammaln(shape)) * 2 * r
    return r * r, mass * (width * weights).ravel()


def _smaller(laws: Laws, t: Floats, most: Floats, c: float) -> Floats:
    """``E min(most, p(x - delta)/p(x))`` over the angle, at each squared length t."""
    d, k, root = laws.d, laws.k, np.sqrt(t)
    # The ratio grows with the cosine, and reaches `most` where |x - delta|^2 is `tau`.
    level = np.log(most)
    tau = t - level if k == 0 else k * wrightomega(t / k + np.log(t / k) - level / k)
    reach = min(1.0, WIDTHS / sqrt(d))
    turn = np.clip((t + c * c - tau) / (2 * c * root), -reach, reach)
    x, w = _rule(ANGLES)
    below = _mean_ratio(laws, t, -reach + (turn + reach)[:, None] * x, c) @ w * (turn + reach)
    u = turn[:, None] + (reach - turn)[:, None] * x
    above = _cosine(d, u) @ w * (reach - turn) * most
    return np.asarray(below + above)


def _mean_ratio(laws: Laws, t: Floats, u: Floats, c: float) -> Floats:
    """The density of the cosine times the ratio of the densities of P."""
    length = t[:, None]
    tau = np.maximum(length + c * c - 2 * c * np.sqrt(length) * u, 1e-300)
    log_ratio = length - tau
    if laws.k:
        log_ratio = log_ratio - laws.k * np.log(tau / length)
    return np.asarray(_cosine(laws.d, u) * np.exp(log_ratio))


def _cosine(d: int, u: Floats) -> Floats:
    """The density of a coordinate of a direction in d dimensions."""
    logs = gammaln(d / 2) - gammaln((d - 1) / 2) - np.log(np.pi) / 2
    return np.asarray(np.exp(logs + xlogy((d - 3) / 2, np.maximum(1 - u * u, 0.0))))


@cache
def _rule(nodes: int) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return (x + 1) / 2, w / 2
