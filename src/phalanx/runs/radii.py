"""Radii a second time, from a bound on a probability, sharing no code with ``phalanx.smoothing``.

Each is written in another form than there: the mass that noise keeps when it is moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import erfc, exp, inf, log, sqrt
from statistics import NormalDist
from typing import Any

from phalanx.runs.arithmetic import radius_of
from phalanx.runs.choices import floor_of
from phalanx.runs.spherical import RELATIVE_SLACK, SLACK, spherical_radius

GAUSSIAN, UNIFORM, LAPLACE = "gaussian", "uniform", "laplace"
GENERALISED_GAUSSIAN = "generalised-gaussian"
RULES = {
    GAUSSIAN: "neyman-pearson",
    **{noise: noise for noise in (UNIFORM, LAPLACE, GENERALISED_GAUSSIAN)},
}
NORMS = ("l1", "l2", "linf")
NORMAL = NormalDist()
LEVEL = 1.1e-6
"""How far a radius may have been moved down for the float32 level of noise other than Gaussian."""


def certified_radius(
    p_lower: float,
    config: Mapping[str, Any],
    sigma: float,
    others: Sequence[float] | None = None,
) -> float:
    """The radius of a run's noise and norm, in input units; 0 where p_lower certifies nothing.

    Args:
        p_lower: in [0, 1].
        config: of the run: ``noise``, ``norm``, ``top`` and, where the radius depends on it,
            ``dimension`` and ``order``. A log that says nothing is one of Gaussian noise and l2.
        sigma: standard deviation of the noise.
        others: bounds on 1 .. k other classes together; None: ``1 - p_lower``.

    >>> config = {"noise": "uniform", "norm": "l1", "dimension": 784}
    >>> round(certified_radius(0.75, config, 1.0), 6)
    0.866025
    """
    noise, norm = config.get("noise", GAUSSIAN), norm_of(config)
    floor = floor_of(config, others)
    if p_lower <= floor:
        return 0.0
    d = int(config["dimension"]) if needs_dimension(config) else 1
    if noise == GAUSSIAN:
        if others is None:
            away = radius_of(p_lower, sigma) if floor == 0.5 else _above(p_lower, floor, sigma)
        else:
            away = sigma * max(_apart(p_lower, p, size) for size, p in enumerate(others, 1))
        return away / (sqrt(d) if norm == "linf" else 1.0)
    if noise == GENERALISED_GAUSSIAN:
        away = spherical_radius(p_lower, d, int(config["order"]), sigma)
        return away / (sqrt(d) if norm == "linf" else 1.0)
    if noise == LAPLACE:
        # Twice the smaller tail grows by a factor e a scale down to one half, and then shrinks.
        down = 0.5 / (1 - p_lower) if p_lower < 1 else inf
        l1 = sigma / sqrt(2) * log((down if p_lower > 0.5 else 2 * p_lower) / (2 * floor))
        return l1 / {"l1": 1.0, "l2": sqrt(d), "linf": float(d)}[norm]
    half = sqrt(3) * sigma
    kept = 1 + floor - p_lower
    if norm == "l1":
        return 2 * half * (1 - kept)
    each = 2 * half * (1 - exp(log(kept) / d))
    return each if norm == "linf" else min(sqrt(d) * each, half)


def least_stored(radius: float, config: Mapping[str, Any], sigma: float) -> float:
    """What a stored radius may be at the least, where the votes give ``radius``.

    Noise that is added in float32 may have cost 1e-6; where there is no closed form, a bound on
    the error of an integral is taken off too.
    """
    left = radius * (1 - LEVEL)
    if config.get("noise") != GENERALISED_GAUSSIAN:
        return left
    return left * (1 - RELATIVE_SLACK) - SLACK * sigma


def _above(p_lower: float, floor: float, sigma: float) -> float:
    """The distance between two normal quantiles."""
    return sigma * (NORMAL.inv_cdf(p_lower) - NORMAL.inv_cdf(floor)) if p_lower < 1 else inf


def _apart(p_lower: float, together: float, size: int) -> float:
    """Where a class with ``p_lower`` meets the mean of ``size`` others, moving against them.

    Moved to the quantile q the class has ``Phi(q)``, and the others ``size`` times that where
    they have moved as far: the root in q of the sum of both ways. For one other it lies half way.
    """
    if p_lower * size <= together:
        return 0.0
    start = NORMAL.inv_cdf(p_lower)
    end = NORMAL.inv_cdf(together) if together < 1 else inf
    if size == 1:
        return (start - end) / 2
    low, high = -40.0, min(start, NORMAL.inv_cdf(1 / size))
    while (q := (low + high) / 2) not in (low, high):
        gained = _quantile_of_multiple(q, size) - end
        low, high = (low, q) if gained > start - q else (q, high)
    return start - low


def _quantile_of_multiple(q: float, size: int) -> float:
    """``Phi^-1(size Phi(q))``."""
    mass = size * erfc(-q / sqrt(2)) / 2
    return (NORMAL.inv_cdf(mass) if mass > 0 else -inf) if mass < 1 else inf


def norm_of(config: Mapping[str, Any]) -> str:
    """The norm of a run's radii; a log that says nothing is in l2."""
    return str(config.get("norm") or "l2")


def needs_dimension(config: Mapping[str, Any]) -> bool:
    """Whether a run's radii depend on the number of values of an input.

    >>> needs_dimension({"noise": "gaussian", "norm": "l2"}), needs_dimension({"norm": "linf"})
    (False, True)
    """
    noise, norm = config.get("noise", GAUSSIAN), norm_of(config)
    if noise == GENERALISED_GAUSSIAN:
        return True
    return norm != "l1" and (noise, norm) != (GAUSSIAN, "l2")
