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
from dataclasses import dataclass, field

import torch
from torch import Tensor

from phalanx.bounds.ops import Affine, Box, Curve, Lines, Row, beneath, rows
from phalanx.bounds.region import DUAL, Region
from phalanx.graph.ir import INPUT, Graph, Node

LARGEST_ROWS = 1 << 24
"""Coefficients that one backward pass holds at once; more rows are taken in turns."""

_MOVES = ("reshape", "transpose", "take", "concat")
"""Operators after which a box is still exactly the set of values, entry by entry."""


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
        places: parameters of relaxations by the name of the node a pass begins at and the name of
            the curve, ``(P, S or 1, B, *shape)``.
    """

    graph: Graph
    region: Region
    settings: Settings = Settings()
    places: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.boxes: dict[str, Box] = {}
        self.nodes = self.graph.by_name()
        self.rows: dict[str, Row] = {n.name: rows.get(n.op) for n in self.graph if n.op != INPUT}
        self._readers = self.graph.readers()
        self._lines: dict[str, Lines] = {}
        self._widest = max(torch.Size(node.shape).numel() for node in self.graph)
        self._exact = self._exact_nodes()

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
        count = int(mask.sum(1).max())
        # For each element its own entries; those with fewer fill up with any others.
        chosen = mask.to(torch.int8).topk(count, dim=1).indices.T
        lower, upper = (self.values(node, chosen, sign) for sign in (1.0, -1.0))
        return intersected(box, chosen, lower, -upper)

    def values(self, node: Node, chosen: Tensor, sign: float) -> Tensor:
        """Lower bounds ``(S, B)`` of ``sign`` times the chosen entries ``(S, B)`` of a node."""
        size = max(1, LARGEST_ROWS // (self._widest * max(1, len(self.region))))
        parts = []
        for start in range(0, len(chosen), size):
            part = chosen[start : start + size]
            window = slice(start, start + size)
            parts.append(self.of_entries(node, part, sign, window))
        return torch.cat(parts)

    def of_entries(
        self, node: Node, chosen: Tensor, sign: float, window: slice | None = None
    ) -> Tensor:
        """`values` in one pass."""
        row = self.rows[node.name]
        picked = row.pick(node, chosen) if isinstance(row, Affine) else None
        start = (node.name, "lower" if sign > 0 else "upper")
        if picked is not None:
            first, constant = picked
            begun = {node.inputs[0]: sign * first}
            return self.least(begun, None if constant is None else sign * constant, start, window)
        numbers = torch.Size(node.shape).numel()
        unit = self.region.lower.new_zeros(*chosen.shape, numbers)
        unit.scatter_(2, chosen.unsqueeze(2), sign)
        return self.least(
            {node.name: unit.reshape(*chosen.shape, *node.shape)}, None, start, window
        )

    def least(
        self,
        begun: Mapping[str, Tensor],
        constant: Tensor | None,
        start: tuple[str, str] = ("", ""),
        window: slice | None = None,
    ) -> Tensor:
        """Lower bounds ``(S, B)`` of ``sum rows . values + constant`` over the region.

        Args:
            begun: rows ``(S, B, *shape)`` by the names of the nodes they multiply.
            constant: ``(S, B)``.
            start: where the pass begins, for parameters that belong to it.
            window: of its rows, where it is taken in turns.
        """
        pending = dict(begun)
        total = constant
        for node in reversed(self.graph.nodes):
            coefficients = pending.pop(node.name, None)
            if coefficients is None:
                continue
            if node.op == INPUT:
                share: Tensor | None = self.region.least(coefficients)
            else:
                found, share = self._step(node, coefficients, start, window)
                for name, part in zip(node.inputs, found, strict=True):
                    pending[name] = pending[name] + part if name in pending else part
            if share is not None:
                total = share if total is None else total + share
        if total is None:
            raise RuntimeError("a backward pass met nothing")
        return total

    def _step(
        self, node: Node, coefficients: Tensor, start: tuple[str, str], window: slice | None
    ) -> tuple[list[Tensor], Tensor | None]:
        row = self.rows[node.name]
        boxes = [self.boxes[name] for name in node.inputs]
        if not isinstance(row, Curve):
            return row.backward(node, boxes, coefficients)
        place = self.places.get(("/".join(start), node.name))
        if place is None:
            lines = self.lines(node)
        else:
            if window is not None and place.shape[1] > 1:
                place = place[:, window]
            lines = row.lines(node, *boxes[0], place)
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
