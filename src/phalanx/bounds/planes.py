"""Inequalities over several values that a search used besides lines, with its multipliers in them.

A plane says ``p(values) <= c`` of every run of the network. It is told without c, which whoever
checks it finds anew: only coefficients come from the search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SumPlanes:
    """``weight y_j - slope x``, of ReLUs y whose arguments are sums over an earlier node x.

    Attributes:
        node: the ReLUs.
        source: x.
        entries: which of them, ``(k,)`` into the flat output.
        weights: ``(k,)``, none negative.
        slopes: ``(k, m)``.
    """

    node: str
    source: str
    entries: Tensor
    weights: Tensor
    slopes: Tensor

    def weighed(self, weights: NDArray[np.float64]) -> SumPlanes:
        """Those with a weight ``(k,)``, each times it."""
        used = torch.from_numpy(np.flatnonzero(weights))
        size = torch.from_numpy(weights)[used]
        slopes = size[:, None] * self.slopes[used]
        return SumPlanes(
            self.node, self.source, self.entries[used], size * self.weights[used], slopes
        )


@dataclass(frozen=True, eq=False)
class GroupPlanes:
    """``arguments z + answers relu(z)`` of ReLUs taken together, a row a group.

    Attributes:
        node: the ReLUs.
        entries: ``(g, k)`` into the flat output.
        arguments, answers: ``(g, k)``.
    """

    node: str
    entries: Tensor
    arguments: Tensor
    answers: Tensor


Plane = SumPlanes | GroupPlanes
