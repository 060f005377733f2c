"""AutoAttack, the standard version: four attacks in a fixed order (Croce & Hein, ICML 2020)."""

from __future__ import annotations

from typing import ClassVar

from phalanx.attacks import Attack, attacks
from phalanx.attacks.methods.apgd_ce import ApgdCe
from phalanx.attacks.methods.apgd_t import ApgdT
from phalanx.attacks.methods.fab import Fab
from phalanx.attacks.methods.square import Square
from phalanx.attacks.siege import Siege


@attacks.register("autoattack")
class AutoAttack(Attack):
    """Auto-PGD on the cross entropy and targeted, FAB, Square: each on what still stands.

    As published: 100 steps and one restart, 9 classes, 5000 queries; in l1 five restarts, 5 classes
    for Auto-PGD and a schedule of radii. There is nothing to choose.
    """

    gradients: ClassVar[bool] = True

    def run(self, siege: Siege) -> None:
        """The four, in their order."""
        for name, part in parts_of(siege.threat.norm):
            if not len(siege.standing()):
                return
            siege.part = name
            part.run(siege)


def parts_of(norm: str) -> list[tuple[str, Attack]]:
    """Names and attacks.

    >>> [name for name, _ in parts_of("linf")]
    ['apgd-ce', 'apgd-t', 'fab', 'square']
    """
    sparse = norm == "l1"
    return [
        ("apgd-ce", ApgdCe(restarts=5 if sparse else 1)),
        ("apgd-t", ApgdT(targets=5 if sparse else 9)),
        ("fab", Fab()),
        ("square", Square()),
    ]
