"""Bounds of sub-problems with decided ReLUs (beta-CROWN, Wang et al. 2021).

In a sub-problem ``s z >= 0`` holds for every decided unit, so for multipliers ``beta >= 0`` the
rows less ``beta s z`` are nowhere above the rows themselves. A backward pass bounds that from
below; slopes of open units, multipliers, and the shares of a conjunction's rows (whose largest is
at least any weighted mean of them) are moved uphill, each sub-problem for itself.

The bound is least at one input, and there at one value of every unit within its lines. These
values, found by a pass forward, are the gradient: of a slope its coefficient times what the unit
reads, of a multiplier ``-s z``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from phalanx.graph.ir import Graph
from phalanx.specs.property import Case
from phalanx.verify.bab.compact import Compact, compact, rows_of
from phalanx.verify.bab.splits import Domains, Units
from phalanx.verify.outcome import Clock, OutOfTime

WORTH_LEAVING = 0.75
"""Sub-problems that are done leave a batch when no more than this share is left."""

MEMORY = 0.8
"""How much the mean of past values counts against the last ones."""


@dataclass(frozen=True)
class Steps:
    """How far an ascent goes.

    Attributes:
        iterations: how often everything is moved.
        slopes, multipliers, shares: step sizes (Adam's).
        decay: of all of them from one iteration to the next.
    """

    iterations: int = 12
    slopes: float = 0.1
    multipliers: float = 0.1
    shares: float = 0.3
    decay: float = 0.97


@dataclass(frozen=True, eq=False)
class Climbed:
    """What an ascent found, for each of its D domains.

    Attributes:
        bound: ``(D,)``, the best.
        alpha, beta, weights: with which it was found, ``(D, T)``, ``(D, T)``, ``(D, J)``.
        met: coefficients ``(D, T)`` of the units' answers there.
        read: what units read where the bound is least, a mean over the last iterations, ``(D, T)``.
        point: inputs that can move ``(D, n)`` where the linear function is least.
    """

    bound: Tensor
    alpha: Tensor
    beta: Tensor
    weights: Tensor
    met: Tensor
    read: Tensor
    point: Tensor

    def copy(self) -> Climbed:
        """Not changed by what is moved afterwards."""
        return Climbed(*(getattr(self, part.name).clone() for part in fields(self)))

    def at(self, index: Tensor) -> Climbed:
        """Of some of the domains."""
        return Climbed(*(getattr(self, part.name)[index] for part in fields(self)))

    def improve(self, at: Tensor, found: Climbed) -> None:
        """Where what was found of the domains ``at`` is better, it is kept."""
        better = found.bound > self.bound[at]
        chosen = at[better]
        for part in fields(self):
            if part.name != "read":
                getattr(self, part.name)[chosen] = getattr(found, part.name)[better]
        self.read[at] = found.read


class Moves:
    """Adam (Kingma and Ba 2015); nothing of one number enters another's step.

    Args:
        places: what is moved, in place, and the first step's size.

    >>> place = torch.tensor([[0.5, 0.5]])
    >>> Moves((place, 0.1)).uphill([torch.tensor([[3.0, -0.2]])])
    >>> [round(value, 4) for value in place[0].tolist()]
    [0.6, 0.4]
    """

    first, second, tiny = 0.9, 0.999, 1e-8

    def __init__(self, *places: tuple[Tensor, float]) -> None:
        self.places = [place for place, _ in places]
        self.steps = [step for _, step in places]
        self.means = [(torch.zeros_like(place), torch.zeros_like(place)) for place, _ in places]
        self.count = 0

    def uphill(self, slopes: list[Tensor], scale: float = 1.0) -> None:
        """One step, of ``scale`` times the first step's size."""
        self.count += 1
        every = zip(self.places, self.steps, slopes, self.means, strict=True)
        for place, step, slope, (mean, square) in every:
            mean.mul_(self.first).add_(slope, alpha=1 - self.first)
            square.mul_(self.second).addcmul_(slope, slope, value=1 - self.second)
            size = square.div(1 - self.second**self.count).sqrt_().add_(self.tiny)
            place.addcdiv_(mean, size, value=step * scale / (1 - self.first**self.count))

    def leave(self, left: Tensor) -> None:
        """Only these rows are moved from now on."""
        self.places = [place[left] for place in self.places]
        self.means = [(mean[left], square[left]) for mean, square in self.means]


class Ascent:
    """Bounds of one case on its box, under decided signs.

    Args:
        graph: from `prepare`, in float64.
        case: its rows are bounded.
        units: the open ReLUs.
        clock: when it has run out, passes raise `OutOfTime`.
        base: `compact` of all this, where other cases of the box have made it before.
        kind: the precision to compute in.

    Raises:
        OutOfTime: the clock ran out.
    """

    def __init__(
        self,
        graph: Graph,
        case: Case,
        units: Units,
        clock: Clock,
        *,
        base: Compact | None = None,
        kind: torch.dtype = torch.float64,
    ) -> None:
        self.case, self.clock, self.kind = case, clock, kind
        with torch.no_grad():
            self.base = (base or compact(graph, case, units, clock)).to(kind)
            self.rows = rows_of(graph, case, units).to(kind)
        low, high = self.base.low, self.base.high
        self.chord = high / (high - low)
        self.middle = (self.base.lower + self.base.upper) / 2
        self.half = (self.base.upper - self.base.lower) / 2

    def once(self, domains: Domains) -> Tensor:
        """Bounds ``(D,)`` with what the domains begin with."""
        with torch.no_grad():
            found = self._pass(domains).bound(*self._begin(domains))
            return found.nan_to_num(-torch.inf, torch.inf, -torch.inf)

    def inputs(self, point: Tensor) -> Tensor:
        """Whole flat inputs of those that can move."""
        found = self.case.lower.repeat(len(point), 1)
        found[:, self.base.free] = point.double()
        return found

    def climb(self, domains: Domains, steps: Steps) -> Climbed:
        """The best of several passes; a domain that is above zero is left alone."""
        with torch.no_grad():
            return self._climbed(domains, steps)

    def _climbed(self, domains: Domains, steps: Steps) -> Climbed:
        one = self._pass(domains)
        alpha, beta, weights = self._begin(domains)
        moves = Moves((alpha, steps.slopes), (beta, steps.multipliers), (weights, steps.shares))
        live, best = torch.arange(len(domains)), one.kept(alpha, beta, weights).copy()
        for step in range(steps.iterations):
            left = (best.bound[live] <= 0).nonzero().squeeze(1)
            if not len(left):
                break
            if len(left) <= WORTH_LEAVING * len(live):
                live = live[left]
                one.leave(left)
                moves.leave(left)
            moves.uphill(one.gradient(), steps.decay**step)
            alpha, beta, weights = moves.places
            alpha.nan_to_num_(0.5).clamp_(0, 1)
            beta.nan_to_num_(0.0).clamp_(min=0).mul_(one.decided)
            weights.nan_to_num_(0.0)
            best.improve(live, one.kept(alpha, beta, weights))
        return best

    def _begin(self, domains: Domains) -> tuple[Tensor, Tensor, Tensor]:
        parts = (domains.alpha, domains.beta, domains.weights)
        alpha, beta, weights = (part.to(self.kind, copy=True) for part in parts)
        return alpha, beta, weights

    def _pass(self, domains: Domains) -> _Pass:
        if self.clock.expired():
            raise OutOfTime
        return _Pass(self, domains.signs.to(self.kind))


class _Pass:
    """A batch of domains on their boxes."""

    def __init__(self, own: Ascent, signs: Tensor) -> None:
        self.own, self.signs = own, signs
        self.decided = signs.abs()
        self.open, on = 1 - self.decided, signs.clamp_min(0)
        self.on, self.above = on, on + self.open * own.chord
        self.over = self.open * (-own.chord * own.base.low)
        self.mean: Tensor | None = None

    def leave(self, left: Tensor) -> None:
        """Only these domains from now on."""
        names = (
            "signs",
            "decided",
            "open",
            "on",
            "above",
            "over",
            "share",
            "below",
            "met",
            "point",
        )
        for name in (*names, "mean", "read", "answered"):
            setattr(self, name, getattr(self, name)[left])

    def bound(self, alpha: Tensor, beta: Tensor, weights: Tensor) -> Tensor:
        """Lower bounds ``(D,)`` of the weighted mean of the rows less multipliers of signs."""
        own, read = self.own, self.own.base.read
        if own.clock.expired():
            raise OutOfTime
        self.share = torch.softmax(weights, 1)
        self.below = self.on + self.open * alpha
        answers, pushed = self.share @ own.rows.units, beta * self.signs
        passed = torch.empty_like(answers)
        for begin, end in reversed(own.base.layers):
            some = answers[:, begin:end]
            some += passed[:, end:] @ read.units[end:, begin:end]
            falling = some.clamp_max(0)
            part = slice(begin, end)
            passed[:, part] = some * self.below[:, part] - pushed[:, part]
            passed[:, part] += falling * (self.above[:, part] - self.below[:, part])
        self.met = answers
        slopes = self.share @ own.rows.inputs + passed @ read.inputs
        self.point = torch.where(slopes > 0, own.base.lower, own.base.upper)
        found = self.share @ own.rows.shift + passed @ read.shift
        found += (answers.clamp_max(0) * self.over).sum(1)
        return found + slopes @ own.middle - slopes.abs() @ own.half

    def forward(self) -> None:
        """What units read and answer ``(D, T)`` where the bound is least, within their lines."""
        own, read = self.own, self.own.base.read
        z = self.point @ read.inputs.T + read.shift
        h = torch.empty_like(z)
        falling = self.met < 0
        slope = torch.where(falling, self.above, self.below)
        over = self.over * falling
        for begin, end in own.base.layers:
            part = slice(begin, end)
            z[:, part] += h[:, :begin] @ read.units[part, :begin].T
            h[:, part] = slope[:, part] * z[:, part] + over[:, part]
        self.read, self.answered = z, h
        self.mean = z if self.mean is None else MEMORY * self.mean + (1 - MEMORY) * z

    def gradient(self) -> list[Tensor]:
        """Of the bound, by slopes, multipliers and logarithms of shares."""
        own, z = self.own, self.read
        rows = self.point @ own.rows.inputs.T + self.answered @ own.rows.units.T + own.rows.shift
        mean = (self.share * rows).sum(1, keepdim=True)
        slopes = [
            self.met.clamp_min(0) * z * self.open,
            -self.signs * z,
            self.share * (rows - mean),
        ]
        return [slope.nan_to_num_(0.0, 0.0, 0.0) for slope in slopes]

    def kept(self, alpha: Tensor, beta: Tensor, weights: Tensor) -> Climbed:
        """The bound with these, and what belongs to it."""
        found = self.bound(alpha, beta, weights).nan_to_num(-torch.inf, torch.inf, -torch.inf)
        self.forward()
        mean = self.read if self.mean is None else self.mean
        return Climbed(found, alpha, beta, weights, self.met, mean, self.point)
