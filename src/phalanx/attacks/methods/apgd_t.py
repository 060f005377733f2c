"""Auto-PGD towards the likeliest other classes, one after another (Croce & Hein, ICML 2020)."""

from __future__ import annotations

from phalanx.attacks import Count, attacks
from phalanx.attacks.methods._apgd import ApgdAttack
from phalanx.attacks.objective import dlr_targeted
from phalanx.attacks.ranking import aims
from phalanx.attacks.siege import Siege


@attacks.register("apgd-t")
class ApgdT(ApgdAttack):
    """The targeted ratio of logits for each of the nearest classes.

    Attributes:
        targets: classes; published: 9 (5 in l1).
    """

    targets: Count = 9

    def run(self, siege: Siege) -> None:
        """``steps + 1`` gradients a point, class and restart."""
        for target, restart, at, goal in aims(siege, self.targets, self.restarts):
            self.ascend(siege, at, dlr_targeted, "apgd-t", target, restart, goal=goal)
