"""DeepFool: the nearest boundary, as linearised (Moosavi-Dezfooli et al., CVPR 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.attacks import Attack, Count, Length, attacks
from phalanx.attacks.objective import gap
from phalanx.attacks.ranking import nearest_classes
from phalanx.attacks.rows import Rows
from phalanx.attacks.siege import Siege
from phalanx.runtime.vectors import row_sums
from phalanx.specs.geometry import onto_plane


@dataclass
class _Near(Rows):
    x: Tensor
    goals: Tensor


@attacks.register("deepfool")
class DeepFool(Attack):
    """Each step goes just behind the nearest of the boundaries to some classes, as linearised.

    It ends where an input is deceived, in the ball or not: it looks for the nearest, and only what
    lies in the ball counts.

    Attributes:
        steps: at most; published: 50.
        targets: nearest classes; published: all, or 10 in its code.
        beyond: how far a step goes past the boundary; published: 1.02.
    """

    steps: Count = 50
    targets: Count = 9
    beyond: Length = 1.02

    def run(self, siege: Siege) -> None:
        """A gradient a point, class and step."""
        at = siege.standing()
        if not len(at):
            return
        now = _Near(at, siege.x[at], nearest_classes(siege, at, self.targets))
        for _ in range(self.steps):
            slopes = [
                siege.climb(now.at, now.x, gap, goal=now.goals[:, target])
                for target in range(now.goals.shape[1])
            ]
            losses = torch.stack([one.loss for one in slopes], 1)
            gradients = torch.stack([one.gradient.flatten(1) for one in slopes], 1)
            there = (losses < 0).all(1)
            if not bool(there.all()):
                now, losses, gradients = now.kept(there), losses[there], gradients[there]
            if not len(now):
                return
            now = _Near(now.at, self._stepped(siege, now.x, losses, gradients), now.goals)
            still = now.standing(siege)
            if len(still) < len(now):
                now = still
            if not len(now):
                return
        siege.look(now.at, now.x)

    def _stepped(self, siege: Siege, x: Tensor, losses: Tensor, gradients: Tensor) -> Tensor:
        threat = siege.threat
        sizes = threat.dual(gradients.flatten(0, 1)).view_as(losses).clamp_min(1e-12)
        nearest = (losses.abs() / sizes).argmin(1)
        rows = torch.arange(len(x), device=x.device)
        normal, loss = gradients[rows, nearest], losses[rows, nearest]
        offset = row_sums(normal * x.flatten(1)) - loss
        move = onto_plane(threat.norm, x.flatten(1), normal, offset, (threat.low, threat.high))
        # A little more than the boundary's point, so that rounding does not leave it on this side.
        return (x + (self.beyond * move).view_as(x)).clamp(threat.low, threat.high)
