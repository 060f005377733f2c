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

from phalanx.bounds.ops import (
    MOST_PRODUCTS,
    Affine,
    Box,
    Curve,
    Lines,
    Row,
    beneath,
    rows,
    total,
)
from phalanx.bounds.region import DUAL, Region
from phalanx.bounds.sparse import Cuts
from phalanx.graph.ir import INPUT, Graph, Node

LARGEST_ROWS = 1 << 24
"""Coefficients that one backward pass holds at once; more rows are taken in turns."""

WORTH_A_PASS = 1 << 13
"""Coefficients of one element from which on it gets a pass of its own."""


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
    """

    graph: Graph
    region: Region
    settings: Settings = Settings()
    places: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.boxes: dict[str, Box] = {}
        self.nodes = self.graph.by_name()
        self.rows: dict[str, Row] = {n.name: rows.get(n.op) for n in self.graph if n.op != INPUT}
        self._readers = self.graph.readers()
        self._lines: dict[str, Lines] = {}
        self._parts: dict[int, Engine] = {}
        self._widest = max(torch.Size(node.shape).numel() for node in self.graph)
        self._exact = self._exact_nodes()
        self._cuts = Cuts(self.graph, self.rows, self.boxes.__getitem__)

    def bound_all(self) -> None:
        """Boxes of all nodes, in order."""
        for node in self.graph:
            box = self.interval(node)
            self.boxes[node.name] = box
            if self.settings.backward and node.name not in self._exact:
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
        return free | exact if self.region.norm == "linf" else set()

    def wanted(self, node: Node, box: Box) -> Tensor | None:
        """Which entries ``(B, n)`` would tighten a relaxation; None where none would."""
        mask: Tensor | None = None
        for reader in self._readers[node.name]:
            row = self.rows[reader.name]
            if isinstance(row, Affine):
                continue
            boxes = [box if n == node.name else self.boxes.get(n, box) for n in reader.inputs]
            for name, loose in zip(reader.inputs, row.loose(reader, boxes), strict=True):
                if name == node.name:
                    mask = loose if mask is None else mask | loose
        return None if mask is None else mask.expand(box.lower.shape).flatten(1)

    def tightened(self, node: Node, box: Box) -> Box:
        """The box after backward passes for the entries that matter."""
        mask = self.wanted(node, box)
        if mask is None or not bool(mask.any()):
            return box
        counts = mask.sum(1)
        count = int(counts.max())
        # For each element its own entries; those with fewer fill up with any others.
        chosen = mask.to(torch.int8).topk(count, dim=1).indices.T
        if 1 < len(self.region) <= MOST_PRODUCTS and count * self._widest > WORTH_A_PASS:
            found = self._one_by_one(node, chosen, counts.tolist())
        else:
            found = self.values(node, chosen)
        return intersected(box, chosen, found[:count], -found[count:])

    def _one_by_one(self, node: Node, chosen: Tensor, counts: list[int]) -> Tensor:
        """`values`, a pass for each element: none fills up, and all stays in the cache."""
        size = len(chosen)
        found = self.region.lower.new_full((2 * size, chosen.shape[1]), -torch.inf)
        for index, count in enumerate(counts):
            if count:
                part = self.part(index).values(node, chosen[:count, index : index + 1])
                found[:count, index] = part[:count, 0]
                found[size : size + count, index] = part[count:, 0]
        return found

    def part(self, index: int) -> Engine:
        """The engine of one element of the batch, on the same boxes."""
        if index not in self._parts:
            part = copy(self)
            part.region = self.region.element(index)
            part.boxes = _Part(self.boxes, index)
            part._lines, part._parts = {}, {}
            part._cuts = Cuts(part.graph, part.rows, part.boxes.__getitem__)
            self._parts[index] = part
        return self._parts[index]

    def values(self, node: Node, chosen: Tensor) -> Tensor:
        """Lower bounds ``(2 S, B)`` of entries ``(S, B)`` of a node, then of their negatives."""
        size = max(1, LARGEST_ROWS // (2 * self._widest * max(1, len(self.region))))
        parts = [self.of_entries(node, part) for part in chosen.split(size)]
        return torch.cat(
            [part[: len(part) // 2] for part in parts] + [part[len(part) // 2 :] for part in parts]
        )

    def of_entries(self, node: Node, chosen: Tensor) -> Tensor:
        """`values` in one pass."""
        row = self.rows[node.name]
        picked = row.pick(node, chosen) if isinstance(row, Affine) else None
        if picked is not None:
            first, constant = picked
            shift = None if constant is None else torch.cat([constant, -constant])
            return self.least({node.inputs[0]: torch.cat([first, -first])}, shift)
        numbers = torch.Size(node.shape).numel()
        unit = self.region.lower.new_zeros(*chosen.shape, numbers)
        unit.scatter_(2, chosen.unsqueeze(2), 1.0)
        unit = unit.reshape(*chosen.shape, *node.shape)
        return self.least({node.name: torch.cat([unit, -unit])}, None)

    def least(self, begun: Mapping[str, Tensor], constant: Tensor | None) -> Tensor:
        """Lower bounds ``(S, B)`` of ``sum rows . values + constant`` over the region.

        Args:
            begun: rows ``(S, B, *shape)`` by the names of the nodes they multiply.
            constant: ``(S, B)``.
        """
        pending = dict(begun)
        summed = constant
        for node in reversed(self.graph.nodes):
            coefficients = pending.pop(node.name, None)
            if coefficients is None:
                continue
            if node.op == INPUT:
                share: Tensor | None = self.region.least(coefficients)
            else:
                found, share = self._step(node, coefficients)
                for name, part in zip(node.inputs, found, strict=True):
                    pending[name] = pending[name] + part if name in pending else part
            if share is not None:
                summed = share if summed is None else summed + share
        if summed is None:
            raise RuntimeError("a backward pass met nothing")
        return summed

    def _step(self, node: Node, coefficients: Tensor) -> tuple[list[Tensor], Tensor | None]:
        row = self.rows[node.name]
        boxes = [self.boxes[name] for name in node.inputs]
        if (
            isinstance(row, Affine)
            and (found := self._cuts.adjoint(node, coefficients)) is not None
        ):
            offset = row.offset(node)
            return [found], None if offset is None else total(coefficients, offset)
        if not isinstance(row, Curve):
            return row.backward(node, boxes, coefficients)
        place = self.places.get(node.name)
        lines = self.lines(node) if place is None else row.lines(node, *boxes[0], place)
        found, constant = beneath(coefficients, lines)
        return [found], constant

    def lines(self, node: Node) -> Lines:
        """The usual lines of a curve on its input's box, computed once."""
        if node.name not in self._lines:
            row, box = self.rows[node.name], self.boxes[node.inputs[0]]
            if not isinstance(row, Curve):
                raise TypeError(f"{node.op} is no curve")
            place = None
            if self.settings.parallel and row.parameters:
                place = row.start(node, box, parallel=True)[:, 0]
            self._lines[node.name] = row.lines(node, *box, place)
        return self._lines[node.name]


class _Part(dict[str, Box]):
    """The boxes of one element, cut out of those of a batch when they are asked for."""

    def __init__(self, boxes: Mapping[str, Box], index: int) -> None:
        super().__init__()
        self._boxes, self._index = boxes, index

    def __missing__(self, name: str) -> Box:
        box, at = self._boxes[name], slice(self._index, self._index + 1)
        one = len(box.lower) == 1  # a constant has no more
        self[name] = box if one else Box(box.lower[at], box.upper[at])
        return self[name]


def known(box: Box) -> Box:
    """NaN says nothing: it becomes an infinite bound."""
    return Box(
        box.lower.nan_to_num(-torch.inf, torch.inf, -torch.inf),
        box.upper.nan_to_num(torch.inf, torch.inf, -torch.inf),
    )


def intersected(box: Box, chosen: Tensor, lower: Tensor, upper: Tensor) -> Box:
    """The box cut with bounds of the chosen entries ``(S, B)``; NaN among them is passed over.

    Where roundings leave lower above upper by a hair, the two change places.
    """
    shape = box.lower.shape
    index = chosen.T
    low, high = box.lower.flatten(1), box.upper.flatten(1)
    low = low.scatter(1, index, low.gather(1, index).fmax(lower.T))
    high = high.scatter(1, index, high.gather(1, index).fmin(upper.T))
    return Box(low.minimum(high).reshape(shape), low.maximum(high).reshape(shape))
