"""Auto-PGD: gradient ascent whose step halves where it stops paying (Croce & Hein, ICML 2020).

In l1 the steps are sparse and the sparsity follows that of the best point (Croce & Hein, "Mind the
box", ICML 2021).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from phalanx.attacks.objective import Aimed, Objective
from phalanx.attacks.rows import Rows, choose
from phalanx.attacks.siege import Siege, Slope
from phalanx.specs.threat import Threat, spread

MOMENTUM = 0.75
FIRST_CHECK, LEAST_CHECK, EARLIER = 0.22, 0.06, 0.03
"""Shares of the steps: the first interval between checks, the shortest, what each is shorter by."""
L1_CHECK, L1_SHARE, L1_LOSS, L1_SLOWER, L1_SLOWEST = 0.04, 0.2, 1.5, 1.5, 10.0
"""In l1: the interval, the share of coordinates of the first steps; what the best point's share is
divided by; what a step is divided by where sparsity stalls, and how often it can be."""


@dataclass
class Ascent(Rows):
    """What Auto-PGD remembers of each point.

    Attributes:
        x, previous: inputs now and before the last step.
        gradient, loss: at ``x``.
        best, best_gradient, best_loss: where the loss was largest.
        step: length, in input units.
        rises: steps since the last check on which the loss rose.
        checked_loss: the best loss at the last check.
        halved: whether the step was halved there.
        share: in l1, of the coordinates that a step moves.
        support: in l1, coordinates that the best input had moved at the last check.
        goal: the class aimed at; 0 where there is none.
    """

    x: Tensor
    previous: Tensor
    gradient: Tensor
    loss: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    step: Tensor
    rises: Tensor
    checked_loss: Tensor
    halved: Tensor
    share: Tensor
    support: Tensor
    goal: Tensor


def ascend(
    siege: Siege,
    at: Tensor,
    start: Tensor,
    objective: Objective | Aimed,
    *,
    steps: int,
    rho: float,
    goal: Tensor | None = None,
    ball: Threat | None = None,
    resumed: bool = False,
) -> Ascent | None:
    """Auto-PGD from ``start`` ``(n, *shape)`` for the points ``at`` ``(n,)``.

    Args:
        siege: what is attacked.
        at: numbers of the points.
        start: inputs of ball and box.
        objective: what is to rise; with ``goal`` one that aims.
        steps: gradients after the first.
        rho: the step is halved where the loss rose on a smaller share of the steps since the last
            check; published: 0.75.
        goal: a class a point.
        ball: another ball than the threat's, for a schedule of radii.
        resumed: whether ``start`` is the end of an earlier ascent (in l1 its sparsity counts).

    Returns:
        The points that still stand; None where none does.
    """
    ball = ball or siege.threat
    aim = torch.zeros_like(at) if goal is None else goal
    first = siege.climb(at, start, objective, goal=goal)
    now = _begin(siege, at, start, first, goal=aim, ball=ball, resumed=resumed)
    now = now.standing(siege)
    every, since = max(int(FIRST_CHECK * steps), 1), 0
    if ball.norm == "l1":
        every = max(int(L1_CHECK * steps), 1)
    for step in range(steps):
        if not len(now):
            return None
        now = _stepped(siege, now, ball, objective, first=step == 0, aims=goal is not None)
        since += 1
        if since < every or not len(now):
            continue
        since = 0
        if ball.norm == "l1":
            now = _checked_l1(siege, now, ball)
        else:
            now = _checked(now, every, rho)
            every = max(every - max(int(EARLIER * steps), 1), int(LEAST_CHECK * steps), 1)
    return now if len(now) else None


def _begin(
    siege: Siege,
    at: Tensor,
    start: Tensor,
    first: Slope,
    *,
    goal: Tensor,
    ball: Threat,
    resumed: bool,
) -> Ascent:
    gradient, loss = first.gradient, first.loss
    ones, values = torch.ones_like(loss), start[0].numel()
    moved = (start != siege.x[at]).flatten(1).sum(1).to(loss.dtype)
    return Ascent(
        at=at,
        x=start,
        previous=start,
        gradient=gradient,
        loss=loss,
        best=start,
        best_gradient=gradient,
        best_loss=loss,
        step=ones * ball.eps * (1.0 if ball.norm == "l1" else 2.0),
        rises=torch.zeros_like(loss),
        checked_loss=loss,
        halved=torch.ones_like(loss, dtype=torch.bool),
        share=moved / values / L1_LOSS if resumed else ones * L1_SHARE,
        support=moved if resumed else ones * values,
        goal=goal,
    )


def _stepped(
    siege: Siege,
    now: Ascent,
    ball: Threat,
    objective: Objective | Aimed,
    *,
    first: bool,
    aims: bool,
) -> Ascent:
    """One step and what it led to."""
    x = siege.x[now.at]
    if ball.norm == "l1":
        moved = ball.project(x, now.x + spread(now.step, x) * _sparse(now))
    else:
        direct = ball.project(x, now.x + spread(now.step, x) * ball.steepest(now.gradient))
        share = 1.0 if first else MOMENTUM
        ahead = share * (direct - now.x) + (1 - share) * (now.x - now.previous)
        moved = ball.project(x, now.x + ahead)
    slope = siege.climb(now.at, moved, objective, goal=now.goal if aims else None)
    better = slope.loss > now.best_loss
    return replace(
        now,
        x=moved,
        previous=now.x,
        gradient=slope.gradient,
        loss=slope.loss,
        rises=now.rises + (slope.loss > now.loss),
        best=choose(better, moved, now.best),
        best_gradient=choose(better, slope.gradient, now.best_gradient),
        best_loss=torch.where(better, slope.loss, now.best_loss),
    ).standing(siege)


def _sparse(now: Ascent) -> Tensor:
    """The signs of the largest gradients of each point, of l1 norm 1."""
    rows = now.gradient.flatten(1)
    values = rows.shape[1]
    # Rounded down, to one at least: the best point of an l1 ball may have moved a single value.
    place = values - (now.share * values).long().clamp(1, values)
    least = rows.abs().sort(dim=1).values.gather(1, place[:, None])
    signs = torch.where(rows.abs() >= least, rows.sign(), 0)
    return (signs / signs.abs().sum(1, keepdim=True).clamp_min(1)).view_as(now.gradient)


def _checked(now: Ascent, every: int, rho: float) -> Ascent:
    """Halve the step, and go back to the best point, where the last steps did not pay."""
    stalled = now.rises <= rho * every
    stuck = ~now.halved & (now.checked_loss >= now.best_loss)
    halve = stalled | stuck
    return replace(
        now,
        step=torch.where(halve, now.step / 2, now.step),
        x=choose(halve, now.best, now.x),
        gradient=choose(halve, now.best_gradient, now.gradient),
        loss=torch.where(halve, now.best_loss, now.loss),
        rises=torch.zeros_like(now.rises),
        checked_loss=now.best_loss,
        halved=halve,
    )


def _checked_l1(siege: Siege, now: Ascent, ball: Threat) -> Ascent:
    """Follow the sparsity of the best point; a large step again where it became much sparser."""
    support = (now.best != siege.x[now.at]).flatten(1).sum(1).to(now.loss.dtype)
    sparser = support / now.support.clamp_min(1) < 0.95
    step = torch.where(sparser, ball.eps, (now.step / L1_SLOWER).clamp_min(ball.eps / L1_SLOWEST))
    return replace(
        now,
        step=step,
        share=support / now.x[0].numel() / L1_LOSS,
        support=support,
        x=choose(sparser, now.best, now.x),
        gradient=choose(sparser, now.best_gradient, now.gradient),
        loss=torch.where(sparser, now.best_loss, now.loss),
    )
