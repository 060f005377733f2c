"""Fast adaptive boundary attack, towards one class after another (Croce & Hein, ICML 2020)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from phalanx.attacks import Attack, Count, Length, Share, attacks
from phalanx.attacks.objective import gap, margin
from phalanx.attacks.ranking import aims
from phalanx.attacks.rows import Rows, choose
from phalanx.attacks.siege import Siege
from phalanx.attacks.steps import random_start
from phalanx.runtime.vectors import row_sums
from phalanx.specs.geometry import onto_plane
from phalanx.specs.threat import Threat, spread


@dataclass
class _Near(Rows):
    x: Tensor
    goal: Tensor


@attacks.register("fab")
class Fab(Attack):
    """The boundary between two classes, as its linearisation has it, and the nearest point on it.

    Each step goes to a point just behind the boundary, between the one nearest to where the last
    step ended and the one nearest to the clean input; where an input is deceived, the next step
    starts a tenth nearer to the clean one. What lies in the ball counts.

    Attributes:
        steps: gradients a class and restart; published: 100.
        restarts: the first starts at the clean input, the others at random within half the radius.
        targets: nearest classes; published: 9.
        largest: weight of the clean input's point at most; published: 0.1.
        beyond: how far a step goes past the boundary; published: 1.05.
        back: what is left of a deceived input's move; published: 0.9.
    """

    steps: Count = 100
    restarts: Count = 1
    targets: Count = 9
    largest: Share = 0.1
    beyond: Length = 1.05
    back: Share = 0.9

    def run(self, siege: Siege) -> None:
        """A gradient and a look a point and step."""
        for target, restart, at, goal in aims(siege, self.targets, self.restarts):
            start = self._start(siege, at, target, restart)
            self._approach(siege, _Near(at, start, goal))

    def _start(self, siege: Siege, at: Tensor, target: int, restart: int) -> Tensor:
        if not restart:
            return siege.x[at]
        half = replace(siege.threat, eps=siege.threat.eps / 2)
        return random_start(siege, at, "fab", target, restart, ball=half)

    def _approach(self, siege: Siege, now: _Near) -> None:
        for _ in range(self.steps):
            slope = siege.climb(now.at, now.x, gap, goal=now.goal)
            x, loss, gradient = siege.x[now.at], slope.loss, slope.gradient
            now = replace(now, x=self._stepped(siege.threat, x, now.x, loss, gradient))
            scores = siege.look(now.at, now.x)
            crossed = margin(scores, siege.target.weights, siege.y[now.at]) > 0
            # A move that deceived was judged by that look: the next one starts further back.
            nearer = choose(crossed, x + self.back * (now.x - x), now.x)
            now = replace(now, x=nearer).standing(siege)
            if not len(now):
                return

    def _stepped(
        self, threat: Threat, x: Tensor, moved: Tensor, loss: Tensor, gradient: Tensor
    ) -> Tensor:
        """Towards the plane ``loss + <gradient, z - moved> = 0``."""
        normal = gradient.flatten(1)
        offset = row_sums(normal * moved.flatten(1)) - loss
        here = self._move(threat, moved, normal, offset)
        clean = self._move(threat, x, normal, offset)
        far, near = (threat.length(move).clamp_min(1e-8) for move in (here, clean))
        weight = spread((far / (far + near)).clamp(0, self.largest), x)
        mixed = (moved + self.beyond * here) * (1 - weight) + (x + self.beyond * clean) * weight
        return mixed.clamp(threat.low, threat.high)

    def _move(self, threat: Threat, x: Tensor, normal: Tensor, offset: Tensor) -> Tensor:
        move = onto_plane(threat.norm, x.flatten(1), normal, offset, (threat.low, threat.high))
        return move.view_as(x)
