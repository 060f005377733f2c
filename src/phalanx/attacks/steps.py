"""Steps up a gradient inside ball and box, and where to start them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.attacks.objective import Objective
from phalanx.attacks.rows import Rows
from phalanx.attacks.siege import Siege
from phalanx.attacks.target import Target
from phalanx.specs.threat import Threat

SPARSE = 0.2
"""Share of the coordinates that the first l1 step moves; the last one moves a single one."""


@dataclass
class Walk(Rows):
    """Points on their way: the input each has come to."""

    x: Tensor


def random_start(siege: Siege, at: Tensor, *parts: str | int, ball: Threat | None = None) -> Tensor:
    """A random input of ball and box for every point ``at``, from keys of ``parts``.

    For linf it is uniform in the ball.
    """
    ball, x = ball or siege.threat, siege.x[at]
    draws, size = siege.draws(*parts), x[0].numel()
    if ball.norm == "linf":
        noise = 2 * draws.uniforms(at, 0, size) - 1
    else:
        noise = draws.normals(at, 0, size)
    return ball.random_start(x, noise.view_as(x))


def uphill(threat: Threat, x: Tensor, moved: Tensor, gradient: Tensor, left: float) -> Tensor:
    """A direction of length 1 in which the objective rises.

    The steepest for linf and l2. In l1 that is a single coordinate, and a path of such steps is
    long: here a share of the coordinates is moved equally, fewer as time runs out, and none that
    the box holds back (Tramer & Boneh, NeurIPS 2019, SLIDE; Croce & Hein, ICML 2021).

    Args:
        threat: for its norm and box.
        x: the clean inputs ``(n, *shape)``.
        moved: where the steps have come to.
        gradient: there.
        left: share of the steps that are still to come, from 1 to 0.
    """
    if threat.norm != "l1":
        return threat.steepest(gradient)
    held = (moved >= threat.high) & (gradient > 0) | (moved <= threat.low) & (gradient < 0)
    size = gradient.masked_fill(held, 0).flatten(1)
    count = max(1, math.floor(SPARSE * size.shape[1] * max(left, 0.0) ** 2))
    largest = size.abs().topk(count, dim=1)
    step = torch.zeros_like(size).scatter(
        1, largest.indices, size.gather(1, largest.indices).sign()
    )
    return (step / step.abs().sum(1, keepdim=True).clamp_min(1)).view_as(x)


Direction = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""``direction(at, x, gradient, left)``: where to go from ``x`` for the points ``at``."""


def walk(
    siege: Siege,
    start: Walk,
    objective: Objective,
    *,
    steps: int,
    length: float,
    through: Target | None = None,
    look_every: int = 1,
) -> Walk:
    """Projected gradient ascent.

    Args:
        siege: whose threat bounds it.
        start: points and where they begin.
        objective: what is to rise.
        steps: of that many.
        length: of each, in input units.
        through: a member whose gradients are followed instead of the target's.
        look_every: with ``through``, after how many steps the target itself is shown the inputs.

    Returns:
        The points that still stand, and where they have come to.
    """
    now, threat = start, siege.threat
    for step in range(steps):
        slope = siege.climb(now.at, now.x, objective, through=through)
        x = siege.x[now.at]
        moved = now.x + length * uphill(threat, x, now.x, slope.gradient, 1 - (step + 1) / steps)
        now = Walk(now.at, threat.project(x, moved))
        if through is not None and (step + 1) % look_every == 0:
            siege.look(now.at, now.x)
        now = now.standing(siege)
        if not len(now):
            return now
    siege.look(now.at, now.x)
    return now.standing(siege)
