"""Auto-PGD towards the likeliest other classes, one after another (Croce & Hein, ICML 2020)."""

from __future__ import annotations

from phalanx.attacks import Count, attacks
from phalanx.attacks.methods._apgd import ApgdAttack
from phalanx.attacks.objective import dlr_targeted
from phalanx.attacks.ranking import nearest_classes
from phalanx.attacks.siege import LEAST, Siege


@attacks.register("apgd-t")
class ApgdT(ApgdAttack):
    """The targeted ratio of logits for each of the nearest classes.

    Attributes:
        targets: classes; published: 9 (5 in l1).
    """

    targets: Count = 9

    def run(self, siege: Siege) -> None:
        """``steps + 1`` gradients a point, class and restart."""
        every = siege.standing()
        if not len(every):
            return
        goals = nearest_classes(siege, every, self.targets)
        for target in range(goals.shape[1]):
            for restart in range(self.restarts):
                left = siege.now[every] > LEAST
                every, goals = every[left], goals[left]
                if not len(every):
                    return
                parts = ("apgd-t", target, restart)
                self.ascend(siege, every, dlr_targeted, *parts, goal=goals[:, target])
