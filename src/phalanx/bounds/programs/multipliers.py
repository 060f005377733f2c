"""Lower bounds of a program's costs from any multipliers of its rows (weak duality).

For every y, ``c v = y A v + (c - y A) v``; the first part is at least ``y`` times the side of each
row that its sign points at, the second is least at a corner of the columns' box. Nothing that a
solver says is believed: a bad y gives a low bound, never a wrong one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from phalanx.bounds.outward.rounding import SAFE, UNDERFLOW, gamma
from phalanx.bounds.programs.program import Floats, Program
from phalanx.bounds.region import DUAL, Region


def least_by_multipliers(
    program: Program,
    cost: Floats,
    multipliers: Floats,
    constant: float = 0.0,
    ball: Region | None = None,
) -> float:
    """A number that ``cost . v + constant`` is not below anywhere in the program.

    Args:
        program: the columns of a network's input come first.
        cost: ``(columns,)``.
        multipliers: ``(rows,)``, any.
        constant: see above.
        ball: the one input region, where it is more than the input columns' box.

    It is computed in double precision, and what its own roundings may have added is taken off; the
    program's coefficients are taken as they are. Minus infinity where nothing is known, also of
    multipliers that are NaN.

    >>> from phalanx.bounds.programs.program import Draft
    >>> draft = Draft()
    >>> x = draft.forms(draft.add_columns(np.zeros(2), np.ones(2)))
    >>> _ = draft.between(x.take(np.array([0])).plus(x.take(np.array([1]))), 0.5, np.inf)
    >>> found = least_by_multipliers(draft.program(), np.ones(2), np.array([1.0]))
    >>> bool(0.5 - 1e-12 < found <= 0.5)
    True
    """
    with np.errstate(all="ignore"):  # what is not finite at the end is nothing
        found = _weighed(program, cost, multipliers, constant, ball)
    return found if np.isfinite(found) else -np.inf


def _weighed(
    program: Program, cost: Floats, multipliers: Floats, constant: float, ball: Region | None
) -> float:
    y = np.nan_to_num(multipliers, nan=0.0, posinf=0.0, neginf=0.0)
    sides = np.where(y > 0, program.low, program.high)
    y = np.where(np.isfinite(sides), y, 0.0)
    sides = np.where(np.isfinite(sides), sides, 0.0)
    rest = cost - y @ program.matrix
    corner = np.where(rest > 0, program.lower, program.upper)
    # A column without bounds must not be weighed at all: whatever is left of it is infinite.
    products = np.where(rest == 0, 0.0, rest * np.where(rest == 0, 0.0, corner))
    size = np.abs(y) @ abs(program.matrix) + np.abs(cost)
    widest = np.maximum(np.abs(program.lower), np.abs(program.upper))
    weights = np.where(size == 0, 0.0, size * np.where(size == 0, 0.0, widest))
    gained = 0.0
    if ball is not None and ball.norm != "linf":
        count = ball.lower.numel()
        gained, more = _in_ball(ball, rest[:count], size[:count], float(products[:count].sum()))
        weights[:count] += more
    value = float((y * sides).sum() + products.sum() + constant) + gained
    weight = float(np.abs(y * sides).sum() + weights.sum()) + abs(constant)
    terms = program.rows + program.columns + 8
    error = SAFE * gamma(terms) * weight + UNDERFLOW * terms
    return float(value - error)


def _in_ball(region: Region, rest: Floats, size: Floats, in_box: float) -> tuple[float, Floats]:
    """What ``rest . x`` is at least above its least value in the box; and what it sums."""
    order = DUAL[region.norm]
    centre = _numbers(region.centre)
    reach = region.eps * float(np.linalg.norm(rest, ord=order))
    least = float(rest @ centre) - reach
    return max(least - in_box, 0.0), size * np.abs(centre) + region.eps * size


def _numbers(side: Tensor) -> Floats:
    return np.asarray(side.detach().to(torch.float64).reshape(-1).numpy(), dtype=np.float64)
