"""ARC: an attack on random ensembles, one member after another (Dbouk & Shanbhag, ICML 2022)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from phalanx.attacks import Attack, Count, Share, attacks
from phalanx.attacks.objective import gap, margins
from phalanx.attacks.ranking import nearest_classes
from phalanx.attacks.rows import Rows, choose
from phalanx.attacks.siege import LEAST, Siege
from phalanx.attacks.steps import random_start
from phalanx.attacks.target import Target
from phalanx.runtime.vectors import row_sums
from phalanx.specs.threat import spread


@dataclass
class _Path(Rows):
    x: Tensor
    right: Tensor


@attacks.register("arc")
class Arc(Attack):
    """Every member's nearest boundary is sought in turn, and a step kept where fewer stay right.

    For a member whose nearest boundary lies at distance ``z`` along the unit direction ``u`` and
    that the move ``d`` has carried ``a`` towards it, the step ``b = eps (z - a) / (eps - z) + rho
    eps`` makes ``eps (d + b u) / |d + b u|`` cross it. Members come by falling probability. Against
    a gradient of the mean, which the members' disagreement cancels, no member hides another here.

    Attributes:
        steps: rounds over all members; published: 20.
        restarts: the first starts at the clean input, the others at random.
        rho: further step behind a boundary, in units of ``eps``; published: 0.05.
        targets: classes whose boundaries are looked at; published: all, or the nearest 4.
    """

    steps: Count = 20
    restarts: Count = 1
    rho: Share = 0.05
    targets: Count = 4

    def run(self, siege: Siege) -> None:
        """A gradient a point, round, member and class, and a look."""
        order = siege.target.weights.argsort(descending=True, stable=True).tolist()
        members = siege.target.members
        if len(members) == len(order):
            members = [members[i] for i in order]
        for restart in range(self.restarts):
            at = siege.standing()
            if not len(at):
                return
            goals = nearest_classes(siege, at, self.targets)
            x = siege.x[at] if not restart else random_start(siege, at, "arc", restart)
            now = _Path(at, x, self._right(siege, at, x)).standing(siege)
            for _ in range(self.steps):
                for member in members:
                    if not len(now):
                        return
                    keep = siege.now[at] > LEAST
                    at, goals = at[keep], goals[keep]
                    now = self._passed(siege, now, member, goals)

    def _right(self, siege: Siege, at: Tensor, x: Tensor) -> Tensor:
        return siege.target.agreement(siege.look(at, x), siege.y[at])

    def _passed(self, siege: Siege, now: _Path, member: Target, goals: Tensor) -> _Path:
        """One member's step, where it pays."""
        threat, clean = siege.threat, siege.x[now.at]
        distance, direction, ahead = self._nearest(siege, now, member, goals)
        eps, move = threat.eps, now.x - clean
        # ``distance`` is what is left to go from here, so ``z - a`` of the formula; ``z`` itself is
        # that and what the move has done along the direction already.
        done = row_sums((move * direction).flatten(1)) / threat.dual(direction).clamp_min(1e-12)
        reach = (eps - (distance + done)).clamp_min(0.1 * eps)
        length = eps * distance / reach + self.rho * eps
        proposed = move + spread(length, move) * direction
        size = threat.length(proposed).clamp_min(1e-12)
        proposed = proposed * spread((eps / size).clamp_max(1), move)
        x = threat.project(clean, clean + proposed)
        right = self._right(siege, now.at, x)
        pays = ahead & (right <= now.right)
        kept = replace(now, x=choose(pays, x, now.x), right=torch.where(pays, right, now.right))
        return kept.standing(siege)

    def _nearest(
        self, siege: Siege, now: _Path, member: Target, goals: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Distance to a member's nearest boundary as linearised, the way there, and whether it is
        right still."""
        threat, best, way = siege.threat, None, torch.zeros_like(now.x)
        ahead = torch.ones(len(now), dtype=torch.bool, device=now.x.device)
        for target in range(goals.shape[1]):
            slope = siege.climb(now.at, now.x, gap, goal=goals[:, target], through=member)
            ahead = margins(slope.scores, siege.y[now.at])[0] > 0
            away = (-slope.loss).clamp_min(0) / threat.dual(slope.gradient).clamp_min(1e-12)
            if best is None:
                best, way = away, threat.steepest(slope.gradient)
            else:
                way = choose(away < best, threat.steepest(slope.gradient), way)
                best = torch.minimum(best, away)
        return (torch.zeros_like(now.right) if best is None else best), way, ahead
