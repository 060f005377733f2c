"""One step along the gradient (Goodfellow, Shlens & Szegedy, ICLR 2015)."""

from __future__ import annotations

from phalanx.attacks import Attack, attacks
from phalanx.attacks.objective import objective_of
from phalanx.attacks.siege import Siege


@attacks.register("fgsm")
class Fgsm(Attack):
    """One step of length ``eps``: of the gradient's signs in linf, the steepest one in l2 and l1.

    Attributes:
        objective: what is to rise, see `phalanx.attacks.objective`; published: cross entropy.
    """

    objective: str | None = None

    def run(self, siege: Siege) -> None:
        """One gradient and one look a point."""
        at, threat = siege.standing(), siege.threat
        if not len(at):
            return
        objective = objective_of(self.objective, pooled=siege.target.pooled)
        x = siege.x[at]
        slope = siege.climb(at, x, objective)
        siege.look(at, threat.project(x, x + threat.eps * threat.steepest(slope.gradient)))
