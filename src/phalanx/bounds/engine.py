"""The one engine: bounds of every value, forward by boxes and backward by rows of coefficients.

A backward pass carries coefficients from a node to the input: ``rows . y >= sum rows' . x + c`` at
every operator, from its row in `phalanx.bounds.ops`. What differs between Fast-Lin, CROWN,
CROWN-IBP and alpha-CROWN is which lines are taken and where the boxes of the values in between come
from; both are settings.

Sparing work: boxes are intersected with what interval arithmetic gives from the tightened boxes
before them; a backward pass is spent only on those entries whose relaxation is not exact, for
each element of the batch its own; a box that is exact already is left alone; lines are computed
once for all passes through them.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from phalanx.bounds.forms import Forms, worthwhile
from phalanx.bounds.ops import (
    Affine,
    Box,
    Curve,
    Joint,
    Lines,
    Row,
    Which,
    beneath,
    rows,
    taken,
)
from phalanx.bounds.region import DUAL, Region
from phalanx.bounds.sparse import Cuts, Uncut
from phalanx.bounds.windowed import Windowed, possible
from phalanx.graph.ir import INPUT, Graph, Node
from phalanx.graph.run import execute

BLOCK = 1 << 17
"""Coefficients that one backward pass holds at once, so that they stay in the cache; more rows are
taken in turns."""

FEWER_FULL = 8
"""Rows that begin as windows, for one that does not."""

LARGEST_ROWS = 1 << 24
"""Likewise where a gradient is asked for."""

WORTH_A_PASS = 1 << 13
"""Coefficients of an element from which on it gets a pass of its own; rows of smaller ones share
one."""


@dataclass(frozen=True)
class Settings:
    """What kind of pass it is.

    Attributes:
        backward: tighten the boxes in between by backward passes; else they are intervals.
        parallel: lower lines parallel to the upper ones (Fast-Lin, DeepZ), else adaptive.
    """

    backward: bool = True
    parallel: bool = False


@dataclass(eq=False)
class Engine:
    """Bounds of the values of a prepared graph on a region.

    Args:
        graph: from `prepare`, in the region's precision.
        region: the inputs.
        settings: see `Settings`.
        places: parameters ``(P, S or 1, B, *shape)`` of curves, by name, for the passes that are
            run while they are set; curves without have their usual lines.
        given: boxes of all nodes that somebody has found before; `bound_all` takes them.
    """

    graph: Graph
    region: Region
    settings: Settings = Settings()
    places: Mapping[str, Tensor] = field(default_factory=dict)
    given: Mapping[str, Box] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.boxes: dict[str, Box] = {}
        self.nodes = self.graph.by_name()
        self.rows: dict[str, Row] = {n.name: rows.get(n.op) for n in self.graph if n.op != INPUT}
        self.readers = self.graph.readers()
        self._lines: dict[str, Lines] = {}
        self._short: dict[tuple[str, int | None], Lines] = {}
        self._windowed: dict[int, Windowed] = {}
        self._cut_of: dict[int | None, Cuts] = {}
        self._live = any(t.requires_grad for node in self.graph for t in node.tensors.values())
        self._values: dict[str, Tensor] = {}
        self._widest = max(torch.Size(node.shape).numel() for node in self.graph)
        self.exact = self._exact_nodes()

    def bound_all(self) -> None:
        """Boxes of all nodes, in order."""
        if self.given:
            self.boxes.update(self.given)
            return
        forms = Forms(self) if self.settings.backward and worthwhile(self.graph) else None
        for node in self.graph:
            box = self.interval(node)
            if forms is not None:
                box = forms.cut(node, box)
            self.boxes[node.name] = box
            if self.settings.backward and node.name not in self.exact:
                self.boxes[node.name] = self.tightened(node, box)

    def interval(self, node: Node) -> Box:
        """The box of a node from the boxes of its inputs."""
        if node.op == INPUT:
            return Box(self.region.lower, self.region.upper)
        box = self.rows[node.name].interval(node, *(self.boxes[name] for name in node.inputs))
        if self.region.norm != "linf" and isinstance(row := self.rows[node.name], Affine):
            source = self._moved_input(node)
            norm = None if source is None else row.norm(node, DUAL[self.region.norm])
            if norm is not None and source is not None:
                middle = row.linear(node, source)
                offset = row.offset(node)
                middle = middle if offset is None else middle + offset
                gain = self.region.eps * norm
                box = Box(box.lower.maximum(middle - gain), box.upper.minimum(middle + gain))
        return known(box)

    def _moved_input(self, node: Node) -> Tensor | None:
        """The ball's centre in the form the node reads it in, where only axes were moved before."""
        if len(node.inputs) != 1:
            return None
        before = self.nodes[node.inputs[0]]
        if before.op == INPUT:
            return self.region.centre
        if before.op not in ("reshape", "transpose"):
            return None
        source, row = self._moved_input(before), self.rows[before.name]
        return (
            row.linear(before, source) if source is not None and isinstance(row, Affine) else None
        )

    def _exact_nodes(self) -> set[str]:
        """Nodes whose interval is the best there is: affine in the box itself, entry by entry."""
        free: set[str] = set()  # values whose entries move independently over their box
        exact: set[str] = set()
        for node in self.graph:
            if node.op in (INPUT, "constant"):
                free.add(node.name)
            elif all(name in free for name in node.inputs) and len(node.inputs) == 1:
                exact.add(node.name)
                if node.op in ("reshape", "transpose", "scale"):
                    free.add(node.name)
        return free | exact if self.region.norm == "linf" else {self.graph.input.name}

    def wanted(self, node: Node, box: Box) -> Tensor | None:
        """Which entries ``(B, n)`` would tighten a relaxation; None where none would."""
        mask: Tensor | None = None
        for reader in self.readers[node.name]:
            row = self.rows[reader.name]
            if isinstance(row, Affine):
                continue
            boxes = [box if n == node.name else self.boxes.get(n, box) for n in reader.inputs]
            for name, loose in zip(reader.inputs, row.loose(reader, boxes), strict=True):
                if name == node.name:
                    mask = loose if mask is None else mask | loose
        return None if mask is None else mask.expand(box.lower.shape).flatten(1)

    def tightened(self, node: Node, box: Box) -> Box:
        """The box after backward passes for the entries that matter.

        Each gets the bound on that side of which its value at the centre lies first. Most are
        settled by it; the others get the other one too.
        """
        mask = self.wanted(node, box)
        if mask is None or not bool(mask.any()):
            return box
        below = self.likely(node)
        box = self._cut(node, box, mask, below)
        left = self.wanted(node, box)
        mask = mask if left is None else mask & left
        return self._cut(node, box, mask, ~below) if bool(mask.any()) else box

    def likely(self, node: Node) -> Tensor:
        """Where ``(B, n)`` the lower bound is likely to settle the sign; nothing depends on it."""
        if not self._values:
            with torch.no_grad():
                found = execute(self.graph, self.region.centre, lambda node: node, keep=True)
            self._values.update(found)
        value = self._values[node.name]
        return (value > 0).expand(len(self.region), *value.shape[1:]).flatten(1)

    def _cut(self, node: Node, box: Box, mask: Tensor, below: Tensor) -> Box:
        """The box with one side of the masked entries ``(B, n)`` bounded anew."""
        element, entry = mask.nonzero(as_tuple=True)
        lower = below[element, entry]
        sign = lower.to(box.lower.dtype) * 2 - 1
        found = self.sides(node, element, entry, sign)
        return intersected(box, (element, entry), lower, found)

    def sides(self, node: Node, element: Tensor, entry: Tensor, sign: Tensor) -> Tensor:
        """Lower bounds ``(R,)`` of ``sign`` times entries of a node, each for one element.

        Args:
            node: whose entries.
            element: of the batch, rising.
            entry: into the flat value.
            sign: 1, or -1 for upper bounds of the entries, negated.
        """
        count = max(1, (LARGEST_ROWS if self._live else BLOCK) // self._widest)
        count *= FEWER_FULL if possible(node) else 1
        found = []
        if len(self.region) == 1 or len(entry) * self._widest > WORTH_A_PASS * len(self.region):
            counts = torch.bincount(element, minlength=len(self.region)).tolist()
            parts = zip(entry.split(counts), sign.split(counts), strict=True)
            for index, rows in enumerate(parts):
                for some, signs in zip(*(side.split(count) for side in rows), strict=True):
                    if len(some):
                        rows_of = (some[:, None], signs[:, None])
                        found.append(self.of_entries(node, *rows_of, index).flatten())
            return torch.cat(found)
        for at, some, signs in zip(*(x.split(count) for x in (element, entry, sign)), strict=True):
            found.append(self.of_entries(node, some[None], signs[None], at).flatten())
        return torch.cat(found)

    def part(self, index: int) -> Engine:
        """The engine of one element of the batch, with its boxes."""
        part = Engine(self.graph, self.region.element(index), self.settings)
        for name, box in self.boxes.items():
            part.boxes[name] = Box(*(taken(side, index) for side in box))
        return part

    def renewed(self, boxes: Mapping[str, Box]) -> Engine:
        """The same engine over other boxes inside its own: what is cut may stay cut."""
        other = copy(self)
        other.boxes, other._lines, other._short, other._windowed = dict(boxes), {}, {}, {}
        return other

    def of_entries(self, node: Node, entry: Tensor, sign: Tensor, at: Which) -> Tensor:
        """Lower bounds ``(S, B)`` of ``sign`` times entries ``(S, B)`` of a node."""
        one = 0 if at is None and len(self.region) == 1 else at
        if isinstance(one, int) and possible(node):
            if one not in self._windowed:
                self._windowed[one] = Windowed(self, one)
            return self._windowed[one].least(node, entry, sign)
        row = self.rows[node.name]
        picked = row.pick(node, entry) if isinstance(row, Affine) else None
        if picked is not None:
            first, constant = picked
            rows = first * sign.reshape(*sign.shape, *[1] * (first.ndim - 2))
            shift = None if constant is None else constant * sign
            return self.least({node.inputs[0]: rows}, shift, at)
        numbers = torch.Size(node.shape).numel()
        unit = sign.new_zeros(*entry.shape, numbers)
        unit = unit.scatter(2, entry.unsqueeze(2), sign.unsqueeze(2))
        return self.least({node.name: unit.reshape(*entry.shape, *node.shape)}, None, at)

    def least(
        self, begun: Mapping[str, Tensor], constant: Tensor | None, at: Which = None
    ) -> Tensor:
        """Lower bounds ``(S, B)`` of ``sum rows . values + constant`` over the region.

        Args:
            begun: rows ``(S, B, *shape)`` by the names of the nodes they multiply.
            constant: ``(S, B)``.
            at: which element of the region each of the B is: ``(B,)``; one number where B is 1;
                None: the region's own, in order.
        """
        cuts = self._cuts(at)
        if any(cuts.of_layer(self.nodes[name]) is not None for name in begun):
            cuts = Uncut(self.graph, self.rows, self.boxes.__getitem__)  # what is off counts here
        pending = {name: cuts.cut(name, rows) for name, rows in begun.items()}
        summed = constant
        for node in reversed(self.graph.nodes):
            coefficients = pending.pop(node.name, None)
            if coefficients is None:
                continue
            if node.op == INPUT:
                share: Tensor | None = self.region.least(coefficients, at)
            else:
                found, share = self._step(node, coefficients, at, cuts)
                for name, part in zip(node.inputs, found, strict=True):
                    pending[name] = pending[name] + part if name in pending else part
            if share is not None:
                summed = share if summed is None else summed + share
        if summed is None:
            raise RuntimeError("a backward pass met nothing")
        return summed

    def _step(
        self, node: Node, coefficients: Tensor, at: Which, cuts: Cuts
    ) -> tuple[list[Tensor], Tensor | None]:
        row = self.rows[node.name]
        if node.op == "linear" and len(node.shape) == 1:
            weight, bias = cuts.weight(node)
            return [coefficients @ weight], None if bias is None else coefficients @ bias
        if isinstance(row, Curve):
            found, share = self._beneath(node, coefficients, at, cuts)
            return [found], share
        boxes = [self.boxes[name] for name in node.inputs]
        boxes = [Box(taken(box.lower, at), taken(box.upper, at)) for box in boxes]
        place = self.places.get(node.name)
        parallel = self.settings.parallel and isinstance(row, Joint) and row.bilinear
        if place is None and parallel:
            place = row.start(node, boxes, parallel=True)
        parts, share = row.backward(node, boxes, coefficients, place)
        return [cuts.cut(n, part) for n, part in zip(node.inputs, parts, strict=True)], share

    def _beneath(
        self, node: Node, coefficients: Tensor, at: Which, cuts: Cuts
    ) -> tuple[Tensor, Tensor | None]:
        """Rows below those of a curve, of the entries that are kept."""
        place, kept, row = self.places.get(node.name), cuts.entries(node.name), self.rows[node.name]
        if place is None or not isinstance(row, Curve):
            return beneath(coefficients, self._kept_lines(node, at, kept), at)
        lower, upper = (taken(side, at) for side in self.boxes[node.inputs[0]])
        if kept is not None:
            lower, upper = (side.index_select(1, kept) for side in (lower, upper))
            place = place.index_select(3, kept)
        return beneath(coefficients, row.lines(node, lower, upper, place))

    def lines(self, node: Node) -> Lines:
        """The usual lines of a curve on its input's box, computed once."""
        if node.name not in self._lines:
            row, box = self.rows[node.name], self.boxes[node.inputs[0]]
            if not isinstance(row, Curve):
                raise TypeError(f"{node.op} is no curve")
            place = None
            if self.settings.parallel and row.parameters:
                place = row.start(node, [box], parallel=True)[:, 0]
            self._lines[node.name] = row.lines(node, *box, place)
        return self._lines[node.name]

    def _kept_lines(self, node: Node, at: Which, kept: Tensor | None) -> Lines:
        """Those of the entries that are kept; of one element, where there is one."""
        if isinstance(at, Tensor):
            at = None
        if kept is None:
            return self.lines(node)
        if (node.name, at) not in self._short:
            self._short[node.name, at] = self.lines(node).part(at, kept)
        return self._short[node.name, at]

    def _cuts(self, at: Which) -> Cuts:
        """What may be left out for the elements named."""
        which = at if isinstance(at, int) else None
        if which not in self._cut_of:

            def box(name: str) -> Box:
                return Box(*(taken(side, which) for side in self.boxes[name]))

            self._cut_of[which] = Cuts(self.graph, self.rows, box)
        return self._cut_of[which]


def known(box: Box) -> Box:
    """NaN says nothing: it becomes an infinite bound."""
    return Box(
        box.lower.nan_to_num(-torch.inf, torch.inf, -torch.inf),
        box.upper.nan_to_num(torch.inf, torch.inf, -torch.inf),
    )


def intersected(box: Box, at: tuple[Tensor, Tensor], lower: Tensor, found: Tensor) -> Box:
    """The box cut with bounds ``(R,)`` of entries; NaN among them is passed over.

    Where roundings leave lower above upper by a hair, the two change places.

    Args:
        box: ``(B, *shape)``.
        at: element and flat entry of each bound.
        lower: which are lower bounds; the others are of the entries negated.
        found: the bounds.
    """
    shape = box.lower.shape
    low, high = box.lower.flatten(1), box.upper.flatten(1)
    for side, index in ((True, lower), (False, ~lower)):
        where = (at[0][index], at[1][index])
        if side:
            low = low.index_put(where, low[where].fmax(found[index]))
        else:
            high = high.index_put(where, high[where].fmin(-found[index]))
    return Box(low.minimum(high).reshape(shape), low.maximum(high).reshape(shape))
