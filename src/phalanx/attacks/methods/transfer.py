"""From member to ensemble: each member is attacked alone and the result shown to all."""

from __future__ import annotations

from phalanx.attacks import Attack, Count, Length, attacks
from phalanx.attacks.objective import objective_of
from phalanx.attacks.siege import Siege
from phalanx.attacks.steps import Walk, random_start, walk


@attacks.register("transfer")
class Transfer(Attack):
    """Projected gradient ascent through one member after another; the whole ensemble judges.

    Of one model it is projected gradient ascent.

    Attributes:
        steps: gradients a member.
        step: length of each in units of ``eps``; None: ``2.5 / steps``.
        look_every: steps between two looks of the ensemble.
        objective: what is to rise; None: the margin.
    """

    steps: Count = 40
    step: Length | None = None
    look_every: Count = 5
    objective: str | None = None

    def run(self, siege: Siege) -> None:
        """``steps`` gradients a point and member."""
        objective = objective_of(self.objective, default="margin")
        length = siege.threat.eps * (self.step or 2.5 / self.steps)
        for number, member in enumerate(siege.target.members):
            at = siege.standing()
            if not len(at):
                return
            start = Walk(at, random_start(siege, at, "transfer", number))
            walk(
                siege,
                start,
                objective,
                steps=self.steps,
                length=length,
                through=member,
                look_every=self.look_every,
            )
