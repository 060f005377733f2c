"""What the three forms of Auto-PGD share: options, starts and the schedule of radii in l1."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from phalanx.attacks import Attack, Count, Share
from phalanx.attacks.apgd import ascend
from phalanx.attacks.objective import Aimed, Objective
from phalanx.attacks.siege import Siege
from phalanx.attacks.steps import random_start

LARGER = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""In l1: radii, in units of eps, and shares of the steps (Croce & Hein, ICML 2021)."""


class ApgdAttack(Attack):
    """Options of Auto-PGD.

    Attributes:
        steps: gradients a restart; published: 100.
        restarts: random starts.
        rho: see `phalanx.attacks.apgd.ascend`; published: 0.75.
        larger: in l1, come to ``eps`` from three and two times it; published: yes.
    """

    steps: Count = 100
    restarts: Count = 1
    rho: Share = 0.75
    larger: bool = True

    def ascend(
        self,
        siege: Siege,
        at: Tensor,
        objective: Objective | Aimed,
        *parts: str | int,
        goal: Tensor | None = None,
    ) -> None:
        """From one random start for the points ``at``; ``parts`` name its random numbers."""
        threat = siege.threat
        if threat.norm != "l1" or not self.larger:
            start = random_start(siege, at, *parts)
            ascend(siege, at, start, objective, steps=self.steps, rho=self.rho, goal=goal)
            return
        left, resumed = self.steps, False
        widest = replace(threat, eps=LARGER[0][0] * threat.eps)
        start = random_start(siege, at, *parts, ball=widest)
        for size, share in LARGER:
            ball = replace(threat, eps=size * threat.eps)
            steps = left if size == 1.0 else min(left, math.ceil(share * self.steps))
            left -= steps
            start = ball.project(siege.x[at], start)
            found = ascend(
                siege,
                at,
                start,
                objective,
                steps=steps,
                rho=self.rho,
                goal=goal,
                ball=ball,
                resumed=resumed,
            )
            if found is None:
                return
            at, start, resumed = found.at, found.best, True
            goal = None if goal is None else found.goal
