"""Member after member: always the one nearest to falling, without losing those that fell."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.attacks import Attack, Count, Length, attacks
from phalanx.attacks.objective import margins
from phalanx.attacks.siege import Siege
from phalanx.attacks.steps import Walk, random_start, walk

HELD = 0.1
"""Fallen members are held this far behind their boundary, in units of the pursued one's margin."""


def pursue(scores: Tensor, weights: Tensor, y: Tensor) -> Tensor:
    """What the attack raises: how near the nearest right member is, and that fallen ones stay.

    >>> two = torch.tensor([[[2.0, 0.0]], [[5.0, 0.0]]])
    >>> pursue(two, torch.tensor([0.5, 0.5]), torch.tensor([0])).tolist()
    [-2.0]
    """
    ahead = margins(scores, y)
    right = ahead > 0
    nearest = ahead.masked_fill(~right, torch.inf).amin(0)
    pursued = torch.where(right.any(0), nearest, ahead.amax(0))
    room = HELD * pursued.detach().abs()
    held = torch.where(right, 0.0, (ahead + room).clamp_min(0)).sum(0)
    return -pursued - held


@attacks.register("greedy")
class Greedy(Attack):
    """Projected gradient ascent on `pursue`: one member of a random ensemble at a time.

    Attributes:
        steps: gradients a restart.
        step: length of each in units of ``eps``; None: ``2.5 / steps``.
        restarts: random starts.
    """

    steps: Count = 40
    step: Length | None = None
    restarts: Count = 1

    def run(self, siege: Siege) -> None:
        """``steps + 1`` queries a point, member and restart."""
        length = siege.threat.eps * (self.step or 2.5 / self.steps)
        for restart in range(self.restarts):
            at = siege.standing()
            if not len(at):
                return
            start = random_start(siege, at, "greedy", restart)
            walk(siege, Walk(at, start), pursue, steps=self.steps, length=length)
