"""Who bounds boxes of few inputs: a small network's matrices, or the general engine."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from phalanx.bounds.engine import Engine, Settings, known
from phalanx.bounds.ops import Box, Which
from phalanx.bounds.outward.rounding import down
from phalanx.graph.ir import Graph
from phalanx.verify.bab.dense import Dense, Map, dense
from phalanx.verify.bab.walk import Linear, Walk
from phalanx.verify.bounding import Timed
from phalanx.verify.outcome import Clock, OutOfTime

NUMBERS_AT_ONCE = 1 << 19


class DenseBounder:
    """Walks of the matrices of a small network; see `Dense` and `Walk`."""

    arithmetic = "outward"

    def __init__(self, network: Dense) -> None:
        self.network, self.free = network, network.free
        self.single = network.to(torch.float32)
        numbers = network.widest * (len(network.free) + 3)
        self.batch = max(16, min(4096, NUMBERS_AT_ONCE // numbers))

    def least(
        self, lower: Tensor, upper: Tensor, rows: Tensor, inputs: Tensor | None, offset: Tensor
    ) -> Linear:
        """See `Walk.least`; all in float64 but what is computed on the way."""
        return self.walked(lower, upper, rows, inputs, offset)[0]

    def walked(
        self, lower: Tensor, upper: Tensor, rows: Tensor, inputs: Tensor | None, offset: Tensor
    ) -> tuple[Linear, Walk]:
        """Likewise, and the walk; in double precision where only roundings are in the way."""
        single, double = self.single, self.network
        kind = torch.float32
        shift = offset.to(kind)
        shift = torch.where(shift.double() > offset, down(shift), shift)
        narrow = rows.to(kind), None if inputs is None else inputs.to(kind), shift
        parts = [part for part in (rows, inputs) if part is not None]
        exact = all(torch.equal(part, part.to(kind).double()) for part in parts)
        if not exact:
            walk = Walk(double, lower, upper)
            return walk.least(rows, inputs, offset), walk
        walk = Walk(single, lower, upper)
        found = walk.least(*narrow)
        lost = (found.lower <= 0) & (found.lower + 2 * found.doubt > 0)
        found = Linear(*(getattr(found, f.name).double() for f in fields(Linear)))
        again = lost.any(0).nonzero().squeeze(1)
        if not len(again):
            return found, walk
        given = None if inputs is None else inputs[:, again]
        better = Walk(double, lower[again], upper[again]).least(
            rows[:, again], given, offset[:, again]
        )
        for part in fields(Linear):
            getattr(found, part.name)[:, again] = getattr(better, part.name)
        return found, walk


def dense_bounder(
    graph: Graph, lower: Tensor, upper: Tensor, clock: Clock | None = None
) -> DenseBounder | None:
    """For boxes within one box; None where the network is not small.

    Args:
        graph: from `prepare`, in float64.
        lower, upper: the box, flat.
        clock: looked at between layers.

    Raises:
        OutOfTime: the clock ran out.
    """

    walks: list[Walk] = []

    def sides(network: Dense, of: Map) -> tuple[Tensor, Tensor]:
        if clock is not None and clock.expired():
            raise OutOfTime
        free = network.free
        if not walks:
            walks.append(Walk(network, lower[free][None], upper[free][None]))
        walks[0].grow()
        found = walks[0].sides(of)
        return found[0][0], found[1][0]

    with torch.no_grad():
        network = dense(graph, lower, upper, sides)
    return None if network is None else DenseBounder(network)


@dataclass(frozen=True, eq=False)
class Seen(Timed):
    """A region that keeps the coefficients it was last asked about."""

    seen: list[Tensor] = field(default_factory=list)

    def least(self, rows: Tensor, at: Which = None) -> Tensor:
        """See `Region.least`."""
        self.seen[:] = [rows]
        return super().least(rows, at)


class EngineBounder:
    """Passes of the general engine, for networks that are not small; roundings are not counted.

    Args:
        graph: from `prepare`, in float64.
        lower, upper: a box that holds all boxes, flat.
    """

    arithmetic = "real"
    batch = 16

    def __init__(self, graph: Graph, lower: Tensor, upper: Tensor) -> None:
        self.free = (lower < upper).nonzero().squeeze(1)
        self._graph, self._fixed = graph, lower

    def least(
        self, lower: Tensor, upper: Tensor, rows: Tensor, inputs: Tensor | None, offset: Tensor
    ) -> Linear:
        """See `Walk.least`."""
        shape, size = self._graph.input.shape, self._graph[self._graph.output].shape
        sides = []
        for side in (lower, upper):
            whole = self._fixed.expand(len(side), -1).clone()
            whole[:, self.free] = side
            sides.append(whole.reshape(-1, *shape))
        region = Seen(sides[0], sides[1], (sides[0] + sides[1]) / 2)
        engine = Engine(self._graph, region, Settings())
        engine.bound_all()
        found = engine.least({self._graph.output: rows.reshape(*rows.shape[:2], *size)}, None)
        least = known(Box(found + offset, found + offset)).lower
        slopes = region.seen[0].flatten(2)[:, :, self.free]
        middle, half = (lower + upper) / 2, (upper - lower) / 2
        constant = least - (slopes * middle).sum(2) + (slopes.abs() * half).sum(2)
        if inputs is not None:
            slopes = slopes + inputs
            least = constant + (slopes * middle).sum(2) - (slopes.abs() * half).sum(2)
        return Linear(slopes, constant, least, torch.zeros_like(least), slopes.abs() * half)
