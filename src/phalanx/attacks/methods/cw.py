"""Carlini & Wagner's l2 attack (S&P 2017): the shortest move that deceives, in tanh space."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from phalanx.attacks import Attack, Count, Length, attacks
from phalanx.attacks.objective import margin, margins, weighed
from phalanx.attacks.rows import Rows
from phalanx.attacks.siege import Siege
from phalanx.specs.threat import Threat, spread

BETA1, BETA2, TINY = 0.9, 0.999, 1e-8
INSIDE = 0.999999
LARGEST = 1e10
EVERY = 10
"""Steps between looks at what deceives from outside of the ball, brought into it."""


@dataclass
class _Trial(Rows):
    weight: Tensor
    low: Tensor
    high: Tensor


@dataclass
class _Step(Rows):
    w: Tensor
    first: Tensor
    second: Tensor
    weight: Tensor
    deceived: Tensor


@attacks.register("cw")
class CarliniWagner(Attack):
    """``|x' - x|^2 + c max(margin + confidence, 0)`` is lowered, and ``c`` searched by bisection.

    Attributes:
        steps: of Adam for each ``c``; published: 10,000.
        search: values of ``c``; published: 9.
        rate: of Adam; published: 0.01.
        weight: the first ``c``; published: 0.001.
        confidence: published: 0.
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)
    steps: Count = 100
    search: Count = 6
    rate: Length = 0.02
    weight: Length = 1.0
    confidence: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    def run(self, siege: Siege) -> None:
        """``search * steps`` gradients a point."""
        at = siege.standing()
        ones = torch.ones(len(at), device=at.device)
        now = _Trial(at, ones * self.weight, ones * 0, ones * LARGEST)
        for _ in range(self.search):
            if not len(now):
                return
            deceived = self._descend(siege, now)
            low = torch.where(deceived, now.low, now.weight)
            high = torch.where(deceived, now.weight, now.high)
            weight = torch.where(high < LARGEST, (low + high) / 2, 10 * now.weight)
            now = _Trial(now.at, weight, low, high).standing(siege)

    def _descend(self, siege: Siege, trial: _Trial) -> Tensor:
        """One value of ``c``; whether it deceived, for every row of the trial."""
        threat, size = siege.threat, len(siege.x)
        found = torch.zeros(size, dtype=torch.bool, device=siege.x.device)
        clean = siege.x[trial.at]
        w = _unbent((clean - _middle(threat)) / _half(threat) * INSIDE)
        zero = torch.zeros_like(clean)
        now = _Step(trial.at, w, zero, zero, trial.weight, torch.zeros_like(found[trial.at]))
        for step in range(1, self.steps + 1):
            x, slope_of_x = _image(threat, now.w)
            slope = siege.climb(now.at, x, margin)
            wrong = margins(slope.scores, siege.y[now.at])
            ahead = weighed(wrong, siege.target.weights)
            found[now.at[ahead < 0]] = True
            if step % EVERY == 0:
                self._bring_inside(siege, now.at[ahead < 0], x[ahead < 0])
            active = now.weight * (ahead > -self.confidence)
            move = x - siege.x[now.at]
            gradient = (2 * move - spread(active, move) * slope.gradient) * slope_of_x
            now = self._adam(now, gradient, step).standing(siege)
            if not len(now):
                break
        return found[trial.at]

    def _bring_inside(self, siege: Siege, at: Tensor, x: Tensor) -> None:
        if len(at):
            siege.look(at, siege.threat.project(siege.x[at], x))

    def _adam(self, now: _Step, gradient: Tensor, step: int) -> _Step:
        first = BETA1 * now.first + (1 - BETA1) * gradient
        second = BETA2 * now.second + (1 - BETA2) * gradient**2
        scale = (second / (1 - BETA2**step)).sqrt() + TINY
        w = now.w - self.rate * first / (1 - BETA1**step) / scale
        return replace(now, w=w, first=first, second=second)


def _middle(threat: Threat) -> float:
    return (threat.high + threat.low) / 2


def _half(threat: Threat) -> float:
    return (threat.high - threat.low) / 2


def _unbent(u: Tensor) -> Tensor:
    """``atanh u`` by a logarithm, whose last bit does not depend on a number's place in a tensor.

    torch.atanh takes another way for the last few numbers of a tensor (seen with AVX-512).

    >>> u = torch.tensor([-0.9, 0.0, 0.5])
    >>> torch.allclose(torch.tanh(_unbent(u)), u)
    True
    """
    return ((1 + u) / (1 - u)).log() / 2


def _image(threat: Threat, w: Tensor) -> tuple[Tensor, Tensor]:
    """The input of ``w``, inside the box whatever ``w`` is, and its derivative."""
    bent = torch.tanh(w)
    x = (_middle(threat) + _half(threat) * bent).clamp(threat.low, threat.high)
    return x, _half(threat) * (1 - bent**2)
