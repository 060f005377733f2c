"""Which classes to aim at: those that the clean input comes nearest to."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from phalanx.attacks.objective import log_mean
from phalanx.attacks.siege import LEAST, Siege


def aims(siege: Siege, count: int, restarts: int) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Rank of the class, restart, the points that still stand, and the class each aims at.

    The nearest class comes first, with all its restarts.
    """
    every = siege.standing()
    if not len(every):
        return
    goals = nearest_classes(siege, every, count)
    for rank in range(goals.shape[1]):
        for restart in range(restarts):
            left = siege.now[every] > LEAST
            every, goals = every[left], goals[left]
            if not len(every):
                return
            yield rank, restart, every, goals[:, rank]


def nearest_classes(siege: Siege, at: Tensor, count: int) -> Tensor:
    """The ``count`` most likely other classes of each clean input: ``(n, min(count, C - 1))``.

    Likelihood is that of the mean prediction over outcomes; ties go to the lower class.
    """
    scores = siege.look(at, siege.x[at])
    mean = log_mean(scores, siege.target.weights)
    others = mean.scatter(1, siege.y[at, None], -torch.inf)
    order = others.argsort(dim=1, descending=True, stable=True)
    return order[:, : min(count, mean.shape[1] - 1)]
