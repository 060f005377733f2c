"""Bounds of sub-problems with decided ReLUs (beta-CROWN, Wang et al. 2021).

In a sub-problem ``s z >= 0`` holds for every decided unit, so for multipliers ``beta >= 0`` the
rows less ``beta s z`` are nowhere above the rows themselves. A backward pass bounds that from
below; slopes of open units, multipliers, and the shares of a conjunction's rows (whose largest is
at least any weighted mean of them) are moved uphill, each sub-problem for itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.ops import Which
from phalanx.bounds.sparse import Cuts, Uncut
from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case
from phalanx.verify.bab.splits import Domains, Units
from phalanx.verify.bounding import Timed
from phalanx.verify.outcome import Clock


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


class Moves:
    """Adam (Kingma and Ba 2015); nothing of one number enters another's step.

    torch.optim would do, but importing it takes longer than many a search.

    Args:
        places: what is moved, in place, and the first step's size.

    >>> place = torch.tensor([0.5, 0.5], requires_grad=True)
    >>> Moves((place, 0.1)).uphill((place * torch.tensor([3.0, -0.2])).sum())
    >>> [round(value, 4) for value in place.tolist()]
    [0.6, 0.4]
    """

    first, second, tiny = 0.9, 0.999, 1e-8

    def __init__(self, *places: tuple[Tensor, float]) -> None:
        self.places = places
        self.means = [(torch.zeros_like(place), torch.zeros_like(place)) for place, _ in places]
        self.count = 0

    def uphill(self, objective: Tensor, scale: float = 1.0) -> None:
        """One step, of ``scale`` times the first step's size."""
        every = [place for place, _ in self.places]
        found = torch.autograd.grad(objective, every, allow_unused=True)
        slopes = cast("tuple[Tensor | None, ...]", found)
        self.count += 1
        with torch.no_grad():
            for (place, step), slope, (mean, square) in zip(
                self.places, slopes, self.means, strict=True
            ):
                if slope is None:
                    continue
                mean.mul_(self.first).add_(slope, alpha=1 - self.first)
                square.mul_(self.second).addcmul_(slope, slope, value=1 - self.second)
                size = square.div(1 - self.second**self.count).sqrt_().add_(self.tiny)
                place.addcdiv_(mean, size, value=step * scale / (1 - self.first**self.count))


@dataclass(eq=False)
class _Watching(Engine):
    """An engine that keeps the coefficients of what curves answer."""

    met: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        # Multipliers act on what units that are off read: nothing may be left out.
        self._whole = Uncut(self.graph, self.rows, self.boxes.__getitem__)

    def _cuts(self, at: Which) -> Cuts:
        return self._whole

    def _step(
        self, node: Node, coefficients: Tensor, at: Which, cuts: Cuts
    ) -> tuple[list[Tensor], Tensor | None]:
        if node.op == "relu":
            self.met[node.name] = coefficients.detach()
        return super()._step(node, coefficients, at, cuts)


@dataclass(frozen=True, eq=False)
class _Box(Timed):
    """A timed region that keeps the coefficients it was last asked about."""

    seen: list[Tensor] = field(default_factory=list)

    def least(self, rows: Tensor, at: Which = None) -> Tensor:
        """See `Region.least`."""
        self.seen[:] = [rows.detach()]
        return super().least(rows, at)


@dataclass(frozen=True, eq=False)
class Climbed:
    """What an ascent found, for each of its D domains.

    Attributes:
        bound: ``(D,)``, the best.
        alpha, beta, weights: with which it was found, ``(D, T)``, ``(D, T)``, ``(D, J)``.
        met: coefficients ``(D, T)`` of the units' answers there.
        point: flat inputs ``(D, n)`` where the linear function is least.
    """

    bound: Tensor
    alpha: Tensor
    beta: Tensor
    weights: Tensor
    met: Tensor
    point: Tensor


class Ascent:
    """Bounds of one case on its box, under decided signs.

    Args:
        graph: from `prepare`, in the precision to compute in.
        case: its rows are bounded.
        units: the open ReLUs.
        clock: when it has run out, passes raise `OutOfTime`.
    """

    def __init__(self, graph: Graph, case: Case, units: Units, clock: Clock) -> None:
        self.graph, self.case, self.units, self.clock = graph, case, units, clock
        first = next(iter(units.boxes.values())).lower
        tensors = [t for n in graph for t in n.tensors.values() if t.is_floating_point()]
        self.kind = tensors[0].dtype if tensors else first.dtype
        shape, size = graph.input.shape, graph[graph.output].shape
        self.lower, self.upper = (
            side.to(self.kind).reshape(1, *shape) for side in (case.lower, case.upper)
        )
        self.rows = case.outputs.to(self.kind).reshape(-1, *size)
        self.inputs = None
        if case.inputs is not None:
            self.inputs = case.inputs.to(self.kind).reshape(-1, *shape)
        self.offset = case.offset.to(self.kind)

    def once(self, domains: Domains) -> Climbed:
        """One pass with what the domains begin with."""
        with torch.no_grad():
            alpha, beta = domains.alpha.to(self.kind), domains.beta.to(self.kind)
            return self._kept(self._pass(domains.signs), alpha, beta, domains.weights)

    def climb(self, domains: Domains, steps: Steps) -> Climbed:
        """The best of several passes; a domain that is above zero is left alone."""
        one = self._pass(domains.signs)
        alpha = domains.alpha.to(self.kind).clone().requires_grad_(True)
        beta = domains.beta.to(self.kind).clone().requires_grad_(True)
        weights = domains.weights.to(self.kind).clone().requires_grad_(True)
        moves = Moves((alpha, steps.slopes), (beta, steps.multipliers), (weights, steps.shares))
        decided = domains.signs != 0
        best: Climbed | None = None
        for step in range(steps.iterations + 1):
            with torch.enable_grad():
                bound = one.bound(alpha, beta, weights)
            best = _better(best, self._kept(one, alpha, beta, weights, bound))
            if step == steps.iterations or bool((best.bound > 0).all()):
                break
            asked = torch.isfinite(bound) & (best.bound <= 0)
            moves.uphill(torch.where(asked, bound, 0.0).sum(), steps.decay**step)
            with torch.no_grad():
                alpha.nan_to_num_(0.5).clamp_(0, 1)
                beta.nan_to_num_(0.0).clamp_(min=0).mul_(decided)
                weights.nan_to_num_(0.0)
        if best is None:
            raise RuntimeError("an ascent without a pass")
        return best

    def _pass(self, signs: Tensor) -> _Pass:
        count = len(signs)
        lower, upper = (side.expand(count, *side.shape[1:]) for side in (self.lower, self.upper))
        region = _Box(lower, upper, (lower + upper) / 2, clock=self.clock)
        engine = _Watching(self.graph, region, Settings())
        engine.boxes.update(self.units.cut(signs, self.kind))
        return _Pass(self, engine, region, signs.to(self.kind))

    def _kept(
        self, one: _Pass, alpha: Tensor, beta: Tensor, weights: Tensor, bound: Tensor | None = None
    ) -> Climbed:
        if bound is None:
            bound = one.bound(alpha, beta, weights.to(self.kind))
        slopes = one.region.seen[0][0]
        point = torch.where(slopes > 0, one.region.lower, one.region.upper)
        met = alpha.detach()
        if len(self.units):
            met = self.units.gathered({name: part[0] for name, part in one.engine.met.items()})
        alpha, beta, weights = (part.detach().clone() for part in (alpha, beta, weights))
        found = bound.detach().nan_to_num(-torch.inf, torch.inf, -torch.inf)
        return Climbed(found, alpha, beta, weights, met, point.flatten(1))


@dataclass(frozen=True, eq=False)
class _Pass:
    """A batch of domains on their boxes."""

    ascent: Ascent
    engine: _Watching
    region: _Box
    signs: Tensor

    def bound(self, alpha: Tensor, beta: Tensor, weights: Tensor) -> Tensor:
        """Lower bounds ``(D,)`` of the weighted mean of the rows."""
        own, units = self.ascent, self.ascent.units
        share = torch.softmax(weights, 1)
        self.engine.places = {name: part[None, None] for name, part in units.spread(alpha).items()}
        begun: dict[str, Tensor] = {}
        _add(begun, own.graph.output, torch.tensordot(share, own.rows, 1)[None])
        if own.inputs is not None:
            _add(begun, own.graph.input.name, torch.tensordot(share, own.inputs, 1)[None])
        spread = units.spread(-beta * self.signs)
        for node in units.nodes:
            _add(begun, node.inputs[0], spread[node.name][None])
        found = self.engine.least(begun, (share @ own.offset)[None])
        return found[0]


def _add(begun: dict[str, Tensor], name: str, rows: Tensor) -> None:
    begun[name] = begun[name] + rows if name in begun else rows


def _better(best: Climbed | None, found: Climbed) -> Climbed:
    if best is None:
        return found
    better = found.bound > best.bound
    if not bool(better.any()):
        return best
    wide = better[:, None]
    return Climbed(
        torch.where(better, found.bound, best.bound),
        torch.where(wide, found.alpha, best.alpha),
        torch.where(wide, found.beta, best.beta),
        torch.where(wide, found.weights, best.weights),
        torch.where(wide, found.met, best.met),
        torch.where(wide, found.point, best.point),
    )
