"""Momentum iterative attack (Dong et al., CVPR 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, zeros_like

from phalanx.attacks import Attack, Count, Length, attacks
from phalanx.attacks.objective import objective_of
from phalanx.attacks.rows import Rows
from phalanx.attacks.siege import Siege
from phalanx.attacks.steps import uphill
from phalanx.runtime.vectors import row_sums
from phalanx.specs.threat import TINY, spread


@dataclass
class _Moving(Rows):
    x: Tensor
    momentum: Tensor


@attacks.register("mim")
class Mim(Attack):
    """Steps along a running sum of gradients, each of which has l1 norm 1.

    Attributes:
        steps: gradients; published: 10, with steps of ``eps / 10``.
        step: length of each in units of ``eps``; None: ``2 / steps``.
        decay: what the sum keeps of itself; published: 1.
        objective: what is to rise; published: cross entropy.
    """

    steps: Count = 20
    step: Length | None = None
    decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    objective: str | None = None

    def run(self, siege: Siege) -> None:
        """``steps + 1`` queries a point, from the clean input on."""
        objective = objective_of(self.objective, pooled=siege.target.pooled)
        threat, at = siege.threat, siege.standing()
        length = threat.eps * (self.step or 2 / self.steps)
        now = _Moving(at, siege.x[at], zeros_like(siege.x[at]))
        for step in range(self.steps):
            if not len(now):
                return
            slope = siege.climb(now.at, now.x, objective)
            size = row_sums(slope.gradient.flatten(1).abs()).clamp_min(TINY)
            momentum = self.decay * now.momentum + slope.gradient / spread(size, slope.gradient)
            x, left = siege.x[now.at], 1 - (step + 1) / self.steps
            moved = now.x + length * uphill(threat, x, now.x, momentum, left)
            now = _Moving(now.at, threat.project(x, moved), momentum).standing(siege)
        if len(now):
            siege.look(now.at, now.x)
