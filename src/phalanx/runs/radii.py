"""Radii a second time, from a bound on a probability, sharing no code with ``phalanx.smoothing``.

Each is written in another form than there: the mass that noise keeps when it is moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, inf, log, sqrt
from statistics import NormalDist
from typing import Any

from phalanx.runs.arithmetic import radius_of
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
    p_lower: float, config: Mapping[str, Any], sigma: float, p_other: float | None = None
) -> float:
    """The radius of a run's noise and norm, in input units; 0 where p_lower certifies nothing.

    Args:
        p_lower: in [0, 1].
        config: of the run: ``noise``, ``norm`` and, where the radius depends on it,
            ``dimension`` and ``order``. A log that says nothing is one of Gaussian noise and l2.
        sigma: standard deviation of the noise.
        p_other: bound on every other class's probability; None: ``1 - p_lower``.

    >>> config = {"noise": "uniform", "norm": "l1", "dimension": 784}
    >>> round(certified_radius(0.75, config, 1.0), 6)
    0.866025
    """
    noise, norm = config.get("noise", GAUSSIAN), norm_of(config)
    if p_lower <= (0.5 if p_other is None else p_other):
        return 0.0
    d = int(config["dimension"]) if needs_dimension(config) else 1
    if noise == GAUSSIAN:
        away = radius_of(p_lower, sigma) if p_other is None else _apart(p_lower, p_other, sigma)
        return away / (sqrt(d) if norm == "linf" else 1.0)
    if noise == GENERALISED_GAUSSIAN:
        away = spherical_radius(p_lower, d, int(config["order"]), sigma)
        return away / (sqrt(d) if norm == "linf" else 1.0)
    if noise == LAPLACE:
        l1 = sigma / sqrt(2) * log(0.5 / (1 - p_lower)) if p_lower < 1 else inf
        return l1 / {"l1": 1.0, "l2": sqrt(d), "linf": float(d)}[norm]
    half = sqrt(3) * sigma
    kept = 1.5 - p_lower
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


def _apart(p_lower: float, p_other: float, sigma: float) -> float:
    """Half the distance between two normal quantiles."""
    return sigma * (NORMAL.inv_cdf(p_lower) - NORMAL.inv_cdf(p_other)) / 2


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
