"""Projected gradient ascent (Madry et al., ICLR 2018), in linf, l2 and l1."""

from __future__ import annotations

from phalanx.attacks import Attack, Count, Length, attacks
from phalanx.attacks.objective import objective_of
from phalanx.attacks.siege import Siege
from phalanx.attacks.steps import Walk, random_start, walk


@attacks.register("pgd")
class Pgd(Attack):
    """Steps along the gradient, each followed by the way back into ball and box.

    Attributes:
        steps: gradients a restart.
        step: length of each in units of ``eps``; None: ``2.5 / steps``, as published.
        restarts: random starts; the points that stand go on to the next.
        random_start: False: the first start is the clean input.
        objective: what is to rise, see `phalanx.attacks.objective`; published: cross entropy.
    """

    steps: Count = 40
    step: Length | None = None
    restarts: Count = 1
    random_start: bool = True
    objective: str | None = None

    def run(self, siege: Siege) -> None:
        """``steps + 1`` queries a point and restart."""
        objective = objective_of(self.objective, pooled=siege.target.pooled)
        length = siege.threat.eps * (self.step or 2.5 / self.steps)
        for restart in range(self.restarts):
            at = siege.standing()
            if not len(at):
                return
            start = siege.x[at]
            if self.random_start or restart:
                start = random_start(siege, at, "pgd", restart)
            walk(siege, Walk(at, start), objective, steps=self.steps, length=length)
