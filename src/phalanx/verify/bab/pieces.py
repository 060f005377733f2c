"""Sub-problems whose curves read values in intervals of their own, and bounds of them.

Lines are drawn anew on the intervals, and boxes of what follows are cut with what follows from
them. That a value lies in its interval is also put into the bound, with a multiplier for each side
that was cut (so do Shi et al. 2024 for general nonlinearities, and beta-CROWN for signs): no run of
the network whose values lie there is below ``rows . y - low (z - l) - high (u - z)``, whatever the
multipliers, none of them negative. Slopes and multipliers are moved up the bound's gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from phalanx.bounds.ascent import Ascent
from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.ops import Box, Curve, Lines
from phalanx.bounds.ops import rows as table
from phalanx.bounds.outward.passes import uncovered
from phalanx.graph.ir import INPUT, Graph, Node
from phalanx.graph.run import execute
from phalanx.specs.property import Case
from phalanx.verify.bab.bounders import Seen
from phalanx.verify.bab.contradictions import Contradictions
from phalanx.verify.outcome import Clock

POINTS = 32
"""Inputs at which slopes are looked at."""

STRENGTH = 2.0
"""A multiplier is at most so many times the steepest of a row's slopes in the value."""

CROSSED = 1e-9
"""By how much sides have to cross, relative to them, until it is asked whether they do so for more
than roundings."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Sub-problems.

    Attributes:
        lower, upper: ``(D, T)``: sides of what entries of curves read, whatever they follow from.
        bound: ``(D,)``: a lower bound.
        cuts: ``(D, 2, T)``: of these sides those where the box was cut, exactly; else infinite.
    """

    lower: Tensor
    upper: Tensor
    bound: Tensor
    cuts: Tensor

    def __len__(self) -> int:
        return len(self.bound)

    def __getitem__(self, at: Tensor | slice) -> Parts:
        return Parts(*(getattr(self, field.name)[at] for field in fields(self)))


def joined(*parts: Parts) -> Parts:
    """One after the other."""
    every = (torch.cat([getattr(p, field.name) for p in parts]) for field in fields(Parts))
    return Parts(*every)


def halves(parts: Parts, at: Tensor, place: Tensor) -> Parts:
    """What is below, then what is above, a place ``(D,)`` of one entry ``(D,)`` of each."""
    here = torch.arange(len(parts))
    lower, upper = parts.lower.clone(), parts.upper.clone()
    upper[here, at] = lower[here, at] = place
    down, up = parts.cuts.clone(), parts.cuts.clone()
    down[here, 1, at] = up[here, 0, at] = place
    below = Parts(parts.lower, upper, parts.bound, down)
    return joined(below, Parts(lower, parts.upper, parts.bound, up))


@dataclass(frozen=True, eq=False)
class Bounded:
    """What is found of sub-problems.

    Attributes:
        least: of the best row, ``(D,)``; infinity where no run of the network has its values in
            the intervals, whatever was rounded.
        row: which it is.
        point: inputs ``(D, n)`` where its linear function is least.
        gaps: ``(D, T)``: what the lines of an entry may cost the row.
        lower, upper: ``(D, T)``: the intervals, with what follows from one for another.
    """

    least: Tensor
    row: Tensor
    point: Tensor
    gaps: Tensor
    lower: Tensor
    upper: Tensor


class Pieces:
    """The whole box of a case, in pieces.

    Args:
        graph: from `prepare`, in float64.
        case: whose box it is.
        boxes: of all nodes on it, ``(1, *shape)``; None: CROWN's are computed.
        clock: every pass looks at it.

    Raises:
        OutOfTime: here or in `bounded`, when the clock has run out.
    """

    def __init__(
        self,
        graph: Graph,
        case: Case,
        boxes: Mapping[str, Box] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.graph, self.case, self.clock = graph, case, clock
        self.curves = [n for n in graph if n.op != INPUT and isinstance(table.get(n.op), Curve)]
        self.boxes = boxes or self._boxes()
        self.entries: dict[str, Tensor] = {}
        for node in self.curves:
            name, row = node.inputs[0], table.get(node.op)
            loose = row.loose(node, [self.boxes[name]])[0].flatten()
            if name in self.entries:  # read by another curve as well
                loose = loose.index_fill(0, self.entries[name], True)
            self.entries[name] = loose.nonzero().squeeze(1)
        self.sizes = [len(entries) for entries in self.entries.values()]
        self.steepness = self._steepness()
        self._contradictions: Contradictions | None = None

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def numbers(self) -> int:
        """Of all values and rows of one sub-problem."""
        return len(self.case.outputs) * sum(torch.Size(node.shape).numel() for node in self.graph)

    def root(self) -> Parts:
        """The whole box."""
        lower, upper = (
            self.gathered({name: self.boxes[name][side] for name in self.entries})
            for side in (0, 1)
        )
        bound = torch.full((1,), -torch.inf, dtype=torch.float64)
        none = torch.full_like(lower, torch.inf)
        return Parts(lower, upper, bound, torch.stack([-none, none], 1))

    def gathered(self, values: Mapping[str, Tensor]) -> Tensor:
        """``(D, T)`` of values ``(D, *shape)`` of what curves read."""
        flat = [values[name].flatten(1)[:, entries] for name, entries in self.entries.items()]
        return torch.cat(flat, 1) if flat else torch.zeros(1, 0, dtype=torch.float64)

    def spread(self, numbers: Tensor) -> dict[str, Tensor]:
        """``(..., T)`` as ``(..., *shape)`` for what each curve reads, zero elsewhere."""
        found = {}
        parts = zip(self.entries.items(), numbers.split(self.sizes, -1), strict=True)
        for (name, entries), part in parts:
            shape = self.boxes[name].lower.shape[1:]
            flat = part.new_zeros(*part.shape[:-1], shape.numel())
            found[name] = flat.index_copy(-1, entries, part).unflatten(-1, shape)
        return found

    def bounded(self, parts: Parts, iterations: int, step: float) -> Bounded:
        """Bounds after so many iterations of an ascent."""
        boxes, crossed = self._within(parts)
        empty = self._shown_empty(parts, crossed)
        region = self._region(len(parts))
        engine = Engine(self.graph, region, Settings(), given=boxes)
        engine.bound_all()
        rows = len(self.case.outputs)
        asked = _Asked(self, parts, engine, rows)
        best, seen = asked.least(), region.seen[0]
        ascent = Ascent(list(asked.moved), step)
        for _ in range(iterations):
            with torch.enable_grad():
                ascent.climb(torch.where(torch.isfinite(found := asked.least()), found, 0.0).sum())
            now = asked.least()
            better = (now > best).reshape(*now.shape, *[1] * (seen.ndim - 2))
            best, seen = best.fmax(now), torch.where(better, region.seen[0], seen)
            if bool(((best > 0).any(0) | empty).all()):
                break
        # A bound that is no number, or infinite, came of an overflow and says nothing.
        least, row = torch.where(torch.isfinite(best), best, -torch.inf).max(0)
        here = torch.arange(len(parts))
        points = region.worst(seen)[row, here].flatten(1)
        gaps = self._gaps(engine) * self.steepness[row]
        least = torch.where(empty, torch.inf, least)
        lower, upper = (self.gathered({n: boxes[n][s] for n in self.entries}) for s in (0, 1))
        return Bounded(least, row, points, gaps, lower, upper)

    def _boxes(self) -> Mapping[str, Box]:
        engine = Engine(self.graph, self._region(1), Settings())
        engine.bound_all()
        return engine.boxes

    def _region(self, count: int) -> Seen:
        shape = self.graph.input.shape
        lower, upper = (
            side.reshape(1, *shape).expand(count, *shape)
            for side in (self.case.lower, self.case.upper)
        )
        return Seen(lower, upper, (lower + upper) / 2, clock=self.clock)

    def _steepness(self) -> Tensor:
        """``(J, T)``: the steepest that rows are in what entries read, of a few inputs."""
        lower, upper = self.case.lower, self.case.upper
        draw = torch.Generator().manual_seed(0)
        part = torch.rand(POINTS, len(lower), dtype=torch.float64, generator=draw)
        x = (lower + (upper - lower) * part).reshape(-1, *self.graph.input.shape)
        found = []
        with torch.enable_grad():
            values = execute(self.graph, x.requires_grad_(True), lambda node: node, keep=True)
            # Where nothing moves, in a value or in the output, nothing is steep.
            read = {name: values[name] for name in self.entries if values[name].requires_grad}
            y = values[self.graph.output].flatten(1)
            if not read or not y.requires_grad:
                return torch.zeros(len(self.case.outputs), len(self), dtype=torch.float64)
            for row in self.case.outputs:
                total = (y * row).sum()
                slopes = torch.autograd.grad(
                    total, list(read.values()), retain_graph=True, allow_unused=True
                )
                parts = {name: torch.zeros_like(values[name]) for name in self.entries}
                found_here = zip(read, slopes, strict=True)
                parts |= {name: slope for name, slope in found_here if slope is not None}
                found.append(self.gathered(parts).abs().nan_to_num(0.0).amax(0))
        return torch.stack(found).detach()

    def _within(self, parts: Parts) -> tuple[dict[str, Box], Tensor]:
        """Boxes of all nodes ``(D, *shape)``, and whether they seem to contradict each other."""
        engine = Engine(self.graph, self._region(len(parts)), Settings())
        whole = self._laid(self.boxes, parts.lower, parts.upper)
        crossed = torch.zeros(len(parts), dtype=torch.bool)
        for node in self.graph:
            box = engine.interval(node)
            root = whole.get(node.name, self.boxes[node.name])
            lower, upper = box.lower.maximum(root[0]), box.upper.minimum(root[1])
            wide = CROSSED * (1 + lower.abs().maximum(upper.abs()))
            crossed |= ((lower - upper) > wide).flatten(1).any(1)
            lower, upper = lower.minimum(upper), lower.maximum(upper)
            engine.boxes[node.name] = box = Box(*torch.broadcast_tensors(lower, upper))
            if node.name in whole and node.name not in engine.exact:
                engine.boxes[node.name] = engine.tightened(node, box)
        return engine.boxes, crossed

    def _shown_empty(self, parts: Parts, crossed: Tensor) -> Tensor:
        """Which ``(D,)`` of those that seem so hold no run, with every rounding counted."""
        at = crossed.nonzero().squeeze(1)
        if not len(at) or uncovered(self.graph) is not None:
            return torch.zeros_like(crossed)
        if self._contradictions is None:
            clock = self.clock or Clock()
            self._contradictions = Contradictions(self.graph, self.case, clock)
        none = {n: torch.full_like(self.boxes[n].lower, torch.inf) for n in self.entries}
        free = {n: Box(-side, side) for n, side in none.items()}
        cuts = self._laid(free, *parts.cuts[at].unbind(1))
        return torch.zeros_like(crossed).index_copy(0, at, self._contradictions.shown(cuts))

    def _laid(
        self, base: Mapping[str, Box], lower: Tensor, upper: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Both sides ``(D, *shape)`` of what curves read; of entries these ``(D, T)``."""
        found = {}
        parts = zip(*(side.split(self.sizes, 1) for side in (lower, upper)), strict=True)
        for (name, entries), own in zip(self.entries.items(), parts, strict=True):
            shape = base[name].lower.shape[1:]
            low, high = (
                side.flatten(1).expand(len(lower), -1).index_copy(1, entries, numbers)
                for side, numbers in zip(base[name], own, strict=True)
            )
            found[name] = low.unflatten(1, shape), high.unflatten(1, shape)
        return found

    def _gaps(self, engine: Engine) -> Tensor:
        """``(D, T)``: the most that lines are apart at the sides and in the middle."""
        found: dict[str, Tensor] = {}
        for node in self.curves:
            box, lines = engine.boxes[node.inputs[0]], engine.lines(node)
            apart = [_apart(lines, x) for x in (box.lower, box.centre, box.upper)]
            gap = torch.stack(apart).amax(0).nan_to_num(0.0, torch.inf)
            name = node.inputs[0]
            found[name] = found[name].maximum(gap) if name in found else gap
        return self.gathered(found) if found else torch.zeros(len(engine.region), 0).double()


class _Asked:
    """One evaluation after the other of the same rows, at parameters that are moved."""

    def __init__(self, pieces: Pieces, parts: Parts, engine: Engine, rows: int) -> None:
        self.pieces, self.parts, self.engine = pieces, parts, engine
        case, graph, count = pieces.case, pieces.graph, len(parts)
        shape = graph[graph.output].shape
        self.rows = {
            graph.output: case.outputs.reshape(rows, 1, *shape).expand(rows, count, *shape)
        }
        if case.inputs is not None:
            inside = case.inputs.reshape(rows, 1, *graph.input.shape)
            self.rows[graph.input.name] = inside.expand(rows, count, *graph.input.shape)
        self.offset = case.offset[:, None].expand(rows, count)
        whole = pieces.root()
        self.cut = torch.stack([parts.lower > whole.lower, parts.upper < whole.upper]).double()
        self.most = STRENGTH * pieces.steepness[:, None]
        self.shares = torch.zeros(2, rows, count, len(pieces), dtype=torch.float64)
        self.shares.requires_grad_(True)
        places = {n.name: p for n in pieces.curves if (p := self._start(n, rows)) is not None}
        engine.places = places
        self.moved = [self.shares, *places.values()]

    def _start(self, node: Node, rows: int) -> Tensor | None:
        row = self.engine.rows[node.name]
        if not isinstance(row, Curve) or not row.parameters:
            return None
        start = row.start(node, [self.engine.boxes[node.inputs[0]]])
        found = start.expand(len(start), rows, *start.shape[2:]).clone()
        return found.requires_grad_(True)

    def least(self) -> Tensor:
        """Lower bounds ``(J, D)``."""
        low, high = self.shares * self.cut[:, None] * self.most
        lower, upper = self.parts.lower, self.parts.upper
        # A side that is infinite was not cut, so that its multiplier is zero.
        ends = low * lower.nan_to_num(0.0, 0.0, 0.0) - high * upper.nan_to_num(0.0, 0.0, 0.0)
        begun = dict(self.rows)
        for name, part in self.pieces.spread(high - low).items():
            begun[name] = begun[name] + part if name in begun else part
        return self.engine.least(begun, self.offset + ends.sum(2))


def _apart(lines: Lines, x: Tensor) -> Tensor:
    above, below = lines.upper_slope * x, lines.lower_slope * x
    above = above if lines.upper_offset is None else above + lines.upper_offset
    below = below if lines.lower_offset is None else below + lines.lower_offset
    return (above - below).clamp_min(0)
