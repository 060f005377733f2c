"""What rounding to nearest in double precision may cost (Higham 2002, chapters 2 and 3).

A sum of k products, in any order and with or without fused multiplications, differs from its exact
value by at most ``gamma(k + 1)`` times the sum of the absolute values. `SAFE` covers that the
absolute values are summed in the same arithmetic; `UNDERFLOW` what products below the normal range
lose, also where subnormal numbers are flushed to zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.errors import ParameterError

UNIT = 2.0**-53
SAFE = 1.01
UNDERFLOW = 1e-280
"""More than 2**-1022 times any number of operations that fits into memory."""
LARGEST_SUM = 1 << 40
ULPS = 16
"""What torch computes for exp, log, sqrt, powers, tanh, sigmoid, erf, sin and cos in double
precision is taken to be right to as many units in the last place."""


def gamma(terms: int) -> float:
    """``SAFE k u / (1 - k u)``.

    Raises:
        ParameterError: so many terms that the formula means nothing.

    >>> 1e-16 < gamma(1) < 1.2e-16
    True
    """
    if not 0 < terms < LARGEST_SUM:
        raise ParameterError(f"a sum of {terms} terms", why="its rounding is not bounded")
    return SAFE * terms * UNIT / (1 - terms * UNIT)


def down(x: Tensor) -> Tensor:
    """The next number below: covers one rounding.

    >>> bool(down(torch.ones(1, dtype=torch.float64)) < 1)
    True
    """
    return torch.nextafter(x, torch.full_like(x, -torch.inf))


def up(x: Tensor) -> Tensor:
    """The next number above."""
    return torch.nextafter(x, torch.full_like(x, torch.inf))


def dot(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Sums ``(S,)`` of products over all axes but the first, and how far they may be off.

    >>> total, error = dot(torch.ones(1, 3, dtype=torch.float64), torch.full((1, 3), 0.1).double())
    >>> bool((total - 0.3).abs() < 1e-7), bool(0 < error < 1e-14)
    (True, True)
    """
    products = (rows * values).flatten(1)
    error = gamma(products.shape[1] + 2) * products.abs().sum(1) + UNDERFLOW
    return products.sum(1), error
