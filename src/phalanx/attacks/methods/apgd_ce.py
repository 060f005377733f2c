"""Auto-PGD on the cross entropy (Croce & Hein, ICML 2020)."""

from __future__ import annotations

from phalanx.attacks import attacks
from phalanx.attacks.methods._apgd import ApgdAttack
from phalanx.attacks.objective import objective_of
from phalanx.attacks.siege import Siege


@attacks.register("apgd-ce")
class ApgdCe(ApgdAttack):
    """The untargeted form.

    Attributes:
        objective: what is to rise; None: cross entropy.
    """

    objective: str | None = None

    def run(self, siege: Siege) -> None:
        """``steps + 1`` gradients a point and restart."""
        objective = objective_of(self.objective, pooled=siege.target.pooled)
        for restart in range(self.restarts):
            at = siege.standing()
            if not len(at):
                return
            self.ascend(siege, at, objective, "apgd-ce", restart)
