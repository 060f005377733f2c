"""Steps, sign and floor: between jumps they are constant, so a line is nearest at a piece's ends.

A piece's end counts with the piece's own value, whether or not the function takes it there.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from phalanx.bounds.outward.rounding import UNDERFLOW, UNIT

STEPS = ("sign", "floor")


def step_gap(op: str, slope: Tensor, lower: Tensor, upper: Tensor, *, above: bool) -> Tensor:
    """At most ``f(x) - s x`` on the interval; with ``above``, at most its negative.

    >>> ends = torch.tensor([-1.5]).double(), torch.tensor([0.5]).double()
    >>> round(step_gap("floor", torch.ones(1).double(), *ends, above=False).item(), 9)
    -1.0
    """
    sign = -1.0 if above else 1.0
    pieces = _of_sign(lower, upper) if op == "sign" else _of_floor(lower, upper)
    found: Tensor | None = None
    for x, y in pieces:
        line = slope * x
        # Eight units: places and values beyond 2^53 are whole numbers that were rounded.
        value = sign * (y - line) - 8 * UNIT * (y.abs() + line.abs()) - UNDERFLOW
        found = value if found is None else torch.minimum(found, value)
    if found is None:
        raise RuntimeError("an interval without ends")
    return found


def _of_sign(lower: Tensor, upper: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Ends of pieces; of one that the interval does not meet, an end of the interval."""
    low, high = lower.sign(), upper.sign()
    yield lower, low
    yield upper, high
    yield torch.where(lower < 0, upper.clamp_max(0), lower), torch.where(lower < 0, -1.0, low)
    yield torch.where(upper > 0, lower.clamp_min(0), upper), torch.where(upper > 0, 1.0, high)
    inside = lower.clamp_min(0).minimum(upper)
    yield inside, inside.sign()


def _of_floor(lower: Tensor, upper: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Ends of the first and of the last piece, and of the first and last whole ones between."""
    low, high = lower.floor(), upper.floor()
    yield lower, low
    yield upper, high
    yield torch.minimum(low + 1, upper), low
    yield torch.maximum(high, lower), high
    first, last = low + 1, high - 1
    between = last >= first
    for whole in (first, last):
        y = torch.where(between, whole, low)
        yield torch.where(between, whole, lower), y
        yield torch.where(between, whole + 1, lower), y
