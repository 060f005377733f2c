"""Backward passes over one input region in double precision, with what rounding may cost.

A pass carries ``rows . y >= rows' . x + constant`` from a node towards the input. Where ``rows'``
were rounded, what they are off by meets the box of x: a loss of at most
``gamma (|rows| |W|) . max|x| = gamma |rows| . (|W| max|x|)``, one product of a vector for a whole
layer. What all operators lose is a vector of that kind, so ``|rows|`` is taken once a layer. All
losses are added up and taken off at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from math import prod

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Joint
from phalanx.bounds.ops import rows as table
from phalanx.bounds.outward import crops
from phalanx.bounds.outward.affine import AFFINE, adjoint, lengths, magnitude, offset, roundings
from phalanx.bounds.outward.crops import Crop
from phalanx.bounds.outward.curves import CURVES, gaps
from phalanx.bounds.outward.joints import JOINTS
from phalanx.bounds.outward.picks import picked
from phalanx.bounds.outward.rounding import SAFE, UNDERFLOW, UNIT, dot, gamma
from phalanx.bounds.outward.sums import Place, Sides, Sums, Weights, flattened
from phalanx.bounds.region import DUAL, Region
from phalanx.graph.ir import CONSTANT, INPUT, Graph, Node

Slopes = Mapping[str, tuple[Tensor, Tensor] | None]
"""By the name of a curve: slopes of its lines, ``(S or 1, *shape)`` each; not trusted. By that of
an operator of several variables: the parameters of its planes. Of either None: its box."""

FEW = 16
"""Rows that are too few to be asked on the way whether they are settled."""


@dataclass(frozen=True, eq=False)
class Bends:
    """Lines of a curve, ``middle -+ half`` below and above: ``(S or 1, *shape)`` each.

    ``rows . f(x)`` is at least ``(rows middle - |rows| half) . x`` and its `weights`.
    """

    middle: Tensor
    half: Tensor
    weights: Weights


@dataclass(eq=False)
class _Walking:
    """Rows on their way: by node, and what was gathered."""

    pending: dict[str, Tensor]
    crops: dict[str, Crop]
    """Of those rows that are a rectangle of an image."""
    sums: Sums
    merged: set[str]
    """Where two branches have met, whose sum was rounded once; what that costs is not charged."""

    def take(self, node: Node) -> tuple[Tensor, Crop | None]:
        """Rows of a node; whole ones where rectangles do not go through it."""
        rows, crop = self.pending.pop(node.name), self.crops.pop(node.name, None)
        if crop is None or crops.carries(node) or node.op in (INPUT, *CURVES):
            return rows, crop
        return crop.whole(rows, node.shape), None


class Walk:
    """Backward passes; what a value's box is must be known before one goes through it.

    Args:
        graph: from `prepare`, in float64.
        region: of one input, in float64, wide enough as it is.
        parallel: the lines below have the slopes of those above.
    """

    def __init__(self, graph: Graph, region: Region, *, parallel: bool) -> None:
        self.graph, self.region, self.parallel = graph, region, parallel
        self.sides: dict[str, Sides] = {}
        self._usual: dict[str, Bends] = {}
        self._weights: dict[tuple[str, Crop | None], Weights] = {}
        self._totals: dict[str, Tensor] = {}

    def least(
        self, name: str, rows: Tensor, slopes: Slopes | None = None, *, settle: bool = False
    ) -> Tensor:
        """Lower bounds ``(S,)`` of ``rows . value`` over the region; minus infinity: none.

        Args:
            name: of the node whose value it is.
            rows: ``(S, *shape)``, taken as they are.
            slopes: of curves and operators of several variables; those without have usual ones.
            settle: a bound above zero is enough: such a row goes no further.
        """
        return self.least_of({name: rows}, Sums(len(rows), rows.dtype), slopes, settle=settle)

    def least_entries(
        self,
        node: Node,
        entries: Tensor,
        sign: Tensor,
        crop: Crop | None = None,
        *,
        settle: bool = False,
    ) -> Tensor:
        """Lower bounds ``(S,)`` of ``sign`` times entries ``(S,)`` of a node's flat value.

        Args:
            node: the node.
            entries: into its flat value.
            sign: 1 or -1, for each.
            crop: a rectangle in which all of them lie, of a node that `crops.carries`.
            settle: as in `least`.
        """
        sums = Sums(len(entries), sign.dtype)
        if crop is not None:
            rows = crops.unit_rows(node.shape, entries, sign, crop)
            return self.least_of({node.name: rows}, sums, within={node.name: crop}, settle=settle)
        found = picked(node, entries, sign)
        if found is not None:
            sums.add(found[1], torch.zeros_like(sign))
            return self.least_of({node.inputs[0]: found[0]}, sums, settle=settle)
        unit = torch.zeros(len(entries), prod(node.shape), dtype=sign.dtype)
        unit[torch.arange(len(entries)), entries] = sign
        return self.least(node.name, unit.reshape(-1, *node.shape), settle=settle)

    def least_of(
        self,
        begun: Mapping[str, Tensor],
        sums: Sums,
        slopes: Slopes | None = None,
        *,
        stop: str | None = None,
        within: Mapping[str, Crop] | None = None,
        settle: bool = False,
    ) -> Tensor:
        """Lower bounds ``(S,)`` of rows of several values at once, and of constants.

        Args:
            begun: rows ``(S, *shape)`` by the names of the nodes they multiply.
            sums: constants.
            slopes: as in `least`.
            stop: a node whose box is met, in place of what it is computed from.
            within: rectangles that are all there is of some rows; with usual slopes only.
            settle: as in `least`; with usual slopes only.
        """
        slopes, on = slopes or {}, _Walking(dict(begun), dict(within or {}), sums, set())
        found = torch.full((len(sums.value),), -torch.inf, dtype=sums.value.dtype)
        left, bent = torch.arange(len(found)), False
        for node in reversed(self.graph.nodes):
            if node.name not in on.pending:
                continue
            if settle and bent and node.op in AFFINE and len(left) > FEW:
                bounds = self._on_boxes(on)
                found[left] = bounds
                left = left[_only(on, ~(bounds > 0))]
                if not len(left):
                    return found
            bent = node.op not in AFFINE
            rows, crop = on.take(node)
            flat = rows.flatten(1)
            size = flat.abs()
            if node.name in on.merged:
                on.sums.weigh(flat, size, self._merging(node, crop))
            if node.name == stop:
                on.sums.weigh(flat, size, Weights.of_box(self.sides[stop]))
                continue
            for name in node.inputs:
                on.sums.faint(self._total(name))
            for source, part, at in self._step(node, rows, size, crop, on.sums, slopes):
                self._put(on, source, part, at)
        found[left] = on.sums.lower()
        return found

    def by_boxes(self, rows: Tensor) -> Tensor:
        """Rows of the output go back to the last curves, then meet the boxes of these."""
        met = {node.name: None for node in self.graph if node.op in (*CURVES, *JOINTS)}
        return self.least(self.graph.output, rows, met)

    def usual_slopes(self, node: Node) -> tuple[Tensor, Tensor]:
        """The slopes that the rows of `phalanx.bounds.ops` choose."""
        side, row = self.sides[node.inputs[0]], table.get(node.op)
        if not isinstance(row, Curve):
            raise TypeError(f"{node.op} is no curve")
        box, place = Box(side.lower, side.upper), None
        if self.parallel and row.parameters:
            place = row.start(node, [box], parallel=True)[:, 0]
        lines = row.lines(node, *box, place)
        return finite(lines.lower_slope), finite(lines.upper_slope)

    def _parallel(self, node: Node) -> Place | None:
        """Planes of a product that are parallel, if such are asked for."""
        row = table.get(node.op)
        if not self.parallel or not (isinstance(row, Joint) and row.bilinear):
            return None
        sides = (self.sides[name] for name in node.inputs)
        boxes = [Box(side.lower, side.upper) for side in sides]
        return placed(row.start(node, boxes, parallel=True)[:, :, 0])

    def _put(self, on: _Walking, name: str, rows: Tensor, crop: Crop | None) -> None:
        """One more branch; the last sum is charged where it is read, those before it here."""
        if name in on.pending:
            before, shape = on.pending[name], self.graph[name].shape
            held = before, on.crops.pop(name, None)
            rows, before, crop = crops.alike((rows, crop), held, shape)
            if name in on.merged:
                most = self.sides[name].most
                on.sums.lose(UNIT * SAFE, before, most if crop is None else crop.of(most))
            on.merged.add(name)
            rows = before + rows
        on.pending[name] = rows
        if crop is not None:
            on.crops[name] = crop

    def _on_boxes(self, on: _Walking) -> Tensor:
        """What rows are at least if every value they wait at is anywhere in its box."""
        sums = Sums(0, torch.float64)
        sums.value, sums.error = on.sums.value, on.sums.error
        for name, rows in on.pending.items():
            flat, node, crop = rows.flatten(1), self.graph[name], on.crops.get(name)
            size = flat.abs()
            if name in on.merged:
                sums.weigh(flat, size, self._merging(node, crop))
            sums.weigh(flat, size, self._box(node, crop))
        return sums.lower()

    def _box(self, node: Node, crop: Crop | None) -> Weights:
        made = partial(Weights.of_box, self.sides[node.name])
        return self._cached("box", node, crop, made)

    def _merging(self, node: Node, crop: Crop | None) -> Weights:
        """A sum of two rows: one rounding."""
        lost = partial(flattened, self.sides[node.name].most)
        return self._cached("merged", node, crop, lambda: Weights(None, None, UNIT * lost()))

    def _cached(
        self, what: str, node: Node, crop: Crop | None, make: Callable[[], Weights]
    ) -> Weights:
        """Weights of a node, made once; those of a rectangle are cut out of them."""
        key = (f"{node.name}/{what}", crop)
        if key not in self._weights:
            self._weights[key] = (
                make()
                if crop is None
                else self._cached(what, node, None, make).cut(crop, node.shape)
            )
        return self._weights[key]

    def _total(self, name: str) -> Tensor:
        """The sum of the largest absolute values of a node."""
        if name not in self._totals:
            self._totals[name] = self.sides[name].most.sum()
        return self._totals[name]

    def _step(  # noqa: PLR0917 - of a walk
        self,
        node: Node,
        rows: Tensor,
        size: Tensor,
        crop: Crop | None,
        sums: Sums,
        slopes: Slopes,
    ) -> Iterator[tuple[str, Tensor, Crop | None]]:
        flat = rows.flatten(1)
        if node.op == INPUT:
            sums.add(*self._on_region(flat, size, crop))
        elif node.op == CONSTANT:
            sums.add(*dot(rows, node.tensors["value"].unsqueeze(0)))
        elif node.op in AFFINE:
            made = partial(self._affine, node)
            sums.weigh(flat, size, self._cached("affine", node, crop, made))
            if crop is not None:
                found = crops.adjoint(node, rows, crop)
                yield from ((name, *one) for name, one in zip(node.inputs, found, strict=True))
            else:
                yield from zip(node.inputs, adjoint(node, rows), repeat(None))
        elif node.name in slopes and slopes[node.name] is None:
            sums.weigh(flat, size, self._box(node, crop))
        elif node.op in JOINTS:
            sides = [self.sides[name] for name in node.inputs]
            place = slopes.get(node.name) or self._parallel(node)
            parts = JOINTS[node.op].back(node, rows, sides, sums, place)
            yield from zip(node.inputs, parts, repeat(None))
        else:
            bends = self._bends(node, slopes.get(node.name))
            weights, middle, half = bends.weights, bends.middle, bends.half
            if crop is not None:
                weights = self._cached("bends", node, crop, lambda: bends.weights)
                middle, half = crop.of(middle), crop.of(half)
            sums.weigh(flat, size, weights)
            part = rows * middle
            part.addcmul_(size.reshape(rows.shape), half, value=-1)
            yield node.inputs[0], part, crop

    def _affine(self, node: Node) -> Weights:
        """Its constant, and what products with rows are lost: ``|W| max|x|``."""
        gained = magnitude(node, [self.sides[n].most for n in node.inputs])
        shift = offset(node, gained).expand(1, *node.shape).flatten()
        lost = gamma(lengths(node)[1]) * flattened(gained.expand(-1, *node.shape))
        if count := roundings(node):
            lost = lost + gamma(count) * shift.abs()
        return Weights(shift if bool(shift.any()) else None, None, lost)

    def _bends(self, node: Node, slopes: tuple[Tensor, Tensor] | None) -> Bends:
        """Lines below and above a curve; usual ones are made once."""
        if slopes is not None:
            return self._bent(node, *slopes)
        if node.name not in self._usual:
            self._usual[node.name] = self._bent(node, *self.usual_slopes(node))
        return self._usual[node.name]

    def with_offsets(self, node: Node, below: Tensor, above: Tensor) -> tuple[Tensor, ...]:
        """Slopes below, their offsets, slopes above, and theirs; slopes may become others."""
        side = self.sides[node.inputs[0]]
        low = gaps(node, below, side.lower, side.upper, above=False)
        high = gaps(node, above, side.lower, side.upper, above=True)
        return below, low, above, high

    def _bent(self, node: Node, below: Tensor, above: Tensor) -> Bends:
        side = self.sides[node.inputs[0]]
        below, low, above, high = self.with_offsets(node, below, above)
        middle, half = (above + below) / 2, (above - below) / 2
        # Two products and their difference; that the middle and the half were rounded; an exact
        # product where the lines have one slope.
        units = torch.where(half == 0, 1.0, 5.0) * (UNIT * SAFE)
        lost = units * (middle.abs() + half.abs()) * side.most
        parts = [(high + low) / 2, (high - low) / 2, lost]
        flat = [flattened(part.expand(-1, *node.shape)) for part in parts]
        weights = Weights(*flat)
        return Bends(middle, half, weights)

    def _on_region(self, flat: Tensor, size: Tensor, crop: Crop | None) -> tuple[Tensor, Tensor]:
        region, sums = self.region, Sums(len(flat), flat.dtype)
        sums.weigh(flat, size, self._cached("region", self.graph.input, crop, self._of_region))
        value, error = sums.value, sums.error
        if region.norm == "linf":
            return value, error
        gain = region.eps * torch.linalg.vector_norm(flat, ord=DUAL[region.norm], dim=1)
        centre = region.centre if crop is None else crop.of(region.centre)
        middle, lost = dot(flat, centre.flatten(1))
        ball = middle - gain
        loss = lost + gamma(flat.shape[1] + 4) * gain + UNIT * (middle.abs() + gain) + UNDERFLOW
        better = ball - loss > value - error
        return torch.where(better, ball, value), torch.where(better, loss, error)

    def _of_region(self) -> Weights:
        return Weights.of_box(Sides(self.region.lower, self.region.upper))


def placed(place: Tensor) -> Place:
    """Parameters ``(P, S, *shape)`` of planes, those below and those above."""
    below, above = place.double().unflatten(0, (2, -1)).transpose(1, 2)
    return below, above


def finite(slope: Tensor) -> Tensor:
    """A slope that is no number becomes zero."""
    return slope.nan_to_num(0.0, 0.0, 0.0)


def _only(on: _Walking, kept: Tensor) -> Tensor:
    """Leave out all rows but those kept; which they were."""
    chosen = kept.nonzero().squeeze(1)
    if len(chosen) < len(kept):
        on.pending = {name: rows.index_select(0, chosen) for name, rows in on.pending.items()}
        on.sums.keep(chosen)
    return chosen
