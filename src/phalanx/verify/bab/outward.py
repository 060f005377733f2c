"""Sub-problems with decided ReLUs closed in exact arithmetic: bounds with every rounding counted.

Shares ``w >= 0`` of a case's rows, multipliers ``beta >= 0`` of decided signs and slopes of open
units come from a search or from a linear program, and are not trusted: a counterexample in the
sub-problem has ``rows <= 0`` and ``s z >= 0``, so that ``w rows - beta s z`` is not above zero
there. Where a backward pass shows that it is, on boxes that hold outward as well, there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from phalanx.bounds.outward.curves import gaps
from phalanx.bounds.outward.passes import NOTHING, Known
from phalanx.bounds.outward.rounding import dot, gamma
from phalanx.bounds.outward.sums import Sums
from phalanx.bounds.outward.walk import Slopes
from phalanx.bounds.problem import Between
from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case
from phalanx.verify.bab.splits import Units
from phalanx.verify.outcome import Clock
from phalanx.verify.rechecking import ClockedPasses, widened

NUMBERS_AT_ONCE = 1 << 21
"""Coefficients of one pass."""


class Decided(ClockedPasses):
    """Outward passes on the box of a case, in which signs of ReLUs may be decided row by row.

    Args:
        graph: from `prepare`, in float64.
        case: whose box it is, widened by one unit in the last place.
        clock: looked at in every pass.
        between: how a search bounded values in between; not trusted.
        known: what other outward passes on the case's box left.

    Raises:
        OutOfTime: here or in a pass, when it has run out.
    """

    def __init__(
        self,
        graph: Graph,
        case: Case,
        clock: Clock,
        between: Mapping[str, Between] | None = None,
        known: Known = NOTHING,
    ) -> None:
        self.signs: Mapping[str, Tensor] = {}
        with torch.no_grad():
            region = widened(graph, case)
            super().__init__(clock, graph, region, between=between, known=known)

    def slopes_of(self, units: Units, alpha: Tensor) -> Slopes:
        """Units have slopes ``(D, T)`` below, everything else its usual lines."""
        found = {}
        spread, ones = units.spread(alpha.clamp(0, 1)), units.spread(torch.ones_like(alpha[:1]))
        for node in units.nodes:
            below, above = self.usual_slopes(node)
            found[node.name] = torch.where(ones[node.name] > 0, spread[node.name], below), above
        return found

    def with_offsets(self, node: Node, below: Tensor, above: Tensor) -> tuple[Tensor, ...]:
        """Decided units pass on what they read, or nothing; lines of slopes in [0, 1] touch zero
        from below.
        """
        sign = self.signs.get(node.name)
        if sign is None:
            return super().with_offsets(node, below, above)
        side = self.sides[node.inputs[0]]
        high = gaps(node, above, side.lower, side.upper, above=True)
        decided, on = sign != 0, (sign > 0).to(below.dtype)
        below, above = torch.where(decided, on, below), torch.where(decided, on, above)
        return below, below.new_zeros(1), above, torch.where(decided, 0.0, high)


class Counted:
    """Bounds of one case's sub-problems that no rounding can break.

    Args:
        passes: of the case's box.
        case: its rows are bounded.
        units: whose signs are decided.
    """

    def __init__(self, passes: Decided, case: Case, units: Units) -> None:
        self.passes, self.case, self.units = passes, case, units
        graph = passes.graph
        self._rows = case.outputs.reshape(-1, *graph[graph.output].shape)
        self._inputs = None
        if case.inputs is not None:
            self._inputs = case.inputs.reshape(-1, *graph.input.shape)
        self._at_once = max(1, NUMBERS_AT_ONCE // max(prod(node.shape) for node in graph))

    def least(self, signs: Tensor, alpha: Tensor, beta: Tensor, shares: Tensor) -> Tensor:
        """Lower bounds ``(D,)`` of ``shares rows - beta signs z``; minus infinity: none.

        Above zero: the sub-problem has no counterexample.

        Args:
            signs: ``(D, T)``: 1 on, -1 off, 0 open.
            alpha: ``(D, T)``: slopes of open units below.
            beta: ``(D, T)``: multipliers; negative ones, and those of open units, are nothing.
            shares: ``(D, J)``; negative ones are nothing.
        """
        beta = (beta.double().clamp_min(0) * signs.abs()).nan_to_num(0.0, 0.0, 0.0)
        shares = shares.double().clamp_min(0).nan_to_num(0.0, 0.0, 0.0)
        parts = (part.split(self._at_once) for part in (signs, alpha.double(), beta, shares))
        with torch.no_grad():
            return torch.cat([self._of_some(*some) for some in zip(*parts, strict=True)])

    def _of_some(self, signs: Tensor, alpha: Tensor, beta: Tensor, shares: Tensor) -> Tensor:
        passes, units, graph = self.passes, self.units, self.passes.graph
        sums, loss = Sums(len(signs), torch.float64), gamma(shares.shape[1] + 1)
        offset = dot(shares, self.case.offset[None])
        sums.add(*offset)
        begun = {graph.output: torch.tensordot(shares, self._rows, 1)}
        weight = torch.tensordot(shares, self._rows.abs(), 1)
        sums.lose(loss, weight, passes.sides[graph.output].most)
        if self._inputs is not None:
            weight = torch.tensordot(shares, self._inputs.abs(), 1)
            sums.lose(loss, weight, passes.sides[graph.input.name].most)
            self._begin(begun, graph.input.name, torch.tensordot(shares, self._inputs, 1), sums)
        passes.signs = units.spread(signs.double())
        spread = units.spread(-beta * signs)
        for node in units.nodes:
            self._begin(begun, node.inputs[0], spread[node.name], sums)
        try:
            return passes.least_of(begun, sums, passes.slopes_of(units, alpha))
        finally:
            passes.signs = {}

    def _begin(self, begun: dict[str, Tensor], name: str, rows: Tensor, sums: Sums) -> None:
        if name in begun:
            rows = begun[name] + rows
            sums.lose(gamma(2), rows, self.passes.sides[name].most)
        begun[name] = rows
