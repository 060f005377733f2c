"""Products of a backward pass that leave out what is zero for certain.

Half of the ReLUs of a typical network are off for all inputs of a region: their columns of
coefficients are zero. Which ones differs from element to element of the batch, so each gets its own
part of a layer's matrix, cut out once and kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from phalanx.bounds.ops import MOST_PRODUCTS, Box, Curve, Row
from phalanx.graph.ir import Graph, Node

LEAST_WEIGHTS = 1 << 12
"""Smaller matrices are not worth cutting."""

WORTH_CUTTING = 0.8
"""Share of a matrix's entries, at most, that must be left."""


class Cuts:
    """The parts of each linear layer that can matter, element by element.

    Args:
        graph: a prepared graph.
        rows: its operators' rows.
        box: the box of a node, once it is known.
    """

    def __init__(self, graph: Graph, rows: dict[str, Row], box: Callable[[str], Box]) -> None:
        self._rows, self._box, self._nodes = rows, box, graph.by_name()
        self._readers = graph.readers()
        self._output = graph.output
        self._kept: dict[str, list[tuple[Tensor, Tensor, Tensor]] | None] = {}

    def adjoint(self, node: Node, coefficients: Tensor) -> Tensor | None:
        """Rows ``(S, B, in)`` of a layer's input; None where nothing is cut.

        Columns of outputs that are off are taken for zero, and those of inputs that are off are
        left zero: their lines make them so.
        """
        batch = coefficients.shape[1]
        if node.op != "linear" or len(node.shape) != 1 or batch > MOST_PRODUCTS:
            return None
        if node.tensors["weight"].numel() < LEAST_WEIGHTS:
            return None
        if node.name not in self._kept:
            self._kept[node.name] = self._cut(node, batch)
        cuts = self._kept[node.name]
        if cuts is None:
            return None
        size = node.tensors["weight"].shape[1]
        parts = []
        for row, (out, into, weight) in enumerate(cuts):
            found = coefficients[:, row].index_select(1, out) @ weight
            if len(into) == size:
                parts.append(found)
                continue
            whole = found.new_zeros(len(found), size)
            parts.append(whole.index_copy(1, into, found))
        return torch.stack(parts, 1) if batch > 1 else parts[0].unsqueeze(1)

    def _cut(self, node: Node, batch: int) -> list[tuple[Tensor, Tensor, Tensor]] | None:
        weight = node.tensors["weight"]
        readers = self._readers[node.name]
        alone = len(readers) == 1 and node.name != self._output
        off = [self._off(readers[0].name) if alone else None, self._off(node.inputs[0])]
        if off[0] is None and off[1] is None:
            return None
        masks = [
            torch.ones(batch, size, dtype=torch.bool) if dead is None else ~dead.expand(batch, size)
            for dead, size in zip(off, weight.shape, strict=True)
        ]
        share = masks[0].double().mean(1) * masks[1].double().mean(1)
        if float(share.mean()) > WORTH_CUTTING:
            return None
        cuts = []
        for row in range(batch):
            out, into = (mask[row].nonzero().squeeze(1) for mask in masks)
            cuts.append((out, into, weight.index_select(0, out).index_select(1, into)))
        return cuts

    def _off(self, name: str) -> Tensor | None:
        """Entries ``(B, n)`` of a curve, seen through reshapes, that are zero for certain."""
        node = self._nodes[name]
        if node.op == "reshape":
            return self._off(node.inputs[0])
        row = self._rows.get(name)
        if not isinstance(row, Curve):
            return None
        dead = row.dead(self._box(node.inputs[0]))
        return None if dead is None else dead.flatten(1)
