"""Stopping rules a second time, from stored votes, sharing no code with ``phalanx.smoothing``.

An anytime conclusion holds at whatever look it was drawn, so all that has to be seen is that its
bound was supported at some look up to there: that the mixture of likelihood ratios had grown to 1
over its share of alpha. Here the mixture is integrated numerically.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from phalanx.runs.arithmetic import lower_limit
from phalanx.runs.choices import alternatives, top_of
from phalanx.runs.drawn import RANDOMISED

FIXED, STAGED = "fixed", "staged"
ANYTIME = ("anytime", "anytime-radius")
KNOWN = (FIXED, STAGED, *ANYTIME)

_SHAPE = 0.5
_PANELS, _NODES = 200, 12
_WIDTHS = 40.0
_TOLERANCE = 1e-5
"""In log W: integration, and what the certificate itself was moved by; alpha times 1.00001."""


def final_alpha(config: Mapping[str, Any]) -> float:
    """The share of alpha behind the fixed-n bound that a run's rule ends with.

    >>> final_alpha({"alpha": 0.01, "stop": "anytime", "reserve": 0.5})
    0.005
    """
    alpha, rule = float(config["alpha"]), config.get("stop", FIXED)
    if rule in ANYTIME:
        return alpha * float(config["reserve"])
    if rule == STAGED:
        return alpha / (len(config["stages"]) + 1)
    # Shares that other bounds get; both come with the fixed rule alone.
    return (
        alpha
        * (1 - float(config.get("slope") or 0.0))
        * (1 - float(config.get("runner_up") or 0.0))
    )


def largest_bound(config: Mapping[str, Any]) -> float:
    """The largest p_lower of a run: what n votes out of n give under its rule."""
    n = config["n"]
    alpha = final_alpha(config)
    fixed = _unanimous(config, alpha)
    if config.get("stop", FIXED) not in ANYTIME:
        return fixed
    low, high, wanted = fixed, 1.0, -math.log(_spent(config))
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if log_mixture(n, n, middle) >= wanted else (low, middle)
    return low


def _unanimous(config: Mapping[str, Any], alpha: float) -> float:
    """The bound of n votes out of n, with the number that serves best where one is drawn."""
    # The smallest number that counts as drawn is sqrt(alpha), and alpha / sqrt(alpha) is that too.
    n, drawn = config["n"], config.get("bound") == RANDOMISED
    return lower_limit(n, n, math.sqrt(alpha) if drawn else alpha)


def fewest_others(config: Mapping[str, Any], p_lower: float) -> list[float]:
    """The smallest bounds on 1 .. k others together: those of no votes; empty where none is."""
    if not (share := float(config.get("runner_up") or 0.0)):
        return []
    each = float(config["alpha"]) * share / max(alternatives(config) - 1, 1)
    none = 1 - _unanimous(config, each)
    return [min(none * size, 1 - p_lower) for size in range(1, top_of(config) + 1)]


def _spent(config: Mapping[str, Any]) -> float:
    """The share of alpha that an anytime rule spends on looking."""
    return float(config["alpha"]) * (1 - float(config["reserve"]))


def log_mixture(hits: int, seen: int, p: float) -> float:
    """``log W(p)``: of the likelihood ratios of q in (p, 1) against p, at ``hits`` of ``seen``.

    With density ``b (1-q)^(b-1) / (1-p)^b``, b = 1/2, and ``u = (1-q)^b``, which is uniform, it
    is a mean over u in (0, (1-p)^b), taken by Gauss-Legendre panels around the peak.

    >>> round(log_mixture(100, 100, 0.9), 6)
    9.260235
    """
    missed, top = seen - hits, (1 - p) ** _SHAPE
    peak = min(max(1 - hits / seen, 0.0), 1 - p) ** _SHAPE
    # The ratio falls off over a few 1/sqrt(n) in u (the variance-stabilised scale of q near 1).
    width = _WIDTHS / math.sqrt(seen)
    low, high = max(0.0, peak - width), min(top, peak + width)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    edges = np.linspace(low, high, _PANELS + 1)
    half = np.diff(edges)[:, None] / 2
    u = (edges[:-1, None] + half) + half * nodes
    q = 1 - u**2
    with np.errstate(divide="ignore"):
        logs = hits * (np.log(q) - math.log(p))
        if missed:
            logs = logs + missed * (2 * np.log(u) - math.log1p(-p))
    largest = float(logs.max())
    area = float((np.exp(logs - largest) * half * weights).sum())
    return largest + math.log(area / top)


def supported(p_lower: float, path: Sequence[tuple[int, int]], config: Mapping[str, Any]) -> bool:
    """Whether an anytime rule may conclude ``p_lower`` from a path of (hits, seen).

    Either the mixture rejects it at some look, or the path reaches n and the reserved share
    of alpha gives it.
    """
    hits, seen = path[-1]
    if seen == config["n"] and p_lower <= lower_limit(hits, seen, final_alpha(config)) * (1 + 1e-9):
        return True
    if p_lower <= 0:
        return True
    wanted = -math.log(_spent(config)) - _TOLERANCE
    return any(h > 0 and log_mixture(h, n, p_lower) >= wanted for h, n in path)
