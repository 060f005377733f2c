"""Auto-PGD on the difference-of-logits ratio (Croce & Hein, ICML 2020)."""

from __future__ import annotations

from phalanx.attacks import attacks
from phalanx.attacks.methods._apgd import ApgdAttack
from phalanx.attacks.objective import dlr
from phalanx.attacks.siege import Siege


@attacks.register("apgd-dlr")
class ApgdDlr(ApgdAttack):
    """The untargeted form: its objective does not change when logits are scaled or shifted."""

    def run(self, siege: Siege) -> None:
        """``steps + 1`` gradients a point and restart."""
        for restart in range(self.restarts):
            at = siege.standing()
            if not len(at):
                return
            self.ascend(siege, at, dlr, "apgd-dlr", restart)
