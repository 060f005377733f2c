"""Products of a backward pass that leave out what is zero for certain.

Half of the ReLUs of a typical network, and often nine in ten, are off for all inputs of a region:
their columns of coefficients are zero. They are cut out of the matrices before and behind them,
once, wherever all elements of the batch agree; a pass then never makes them.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Row
from phalanx.graph.ir import INPUT, Graph, Node

LEAST_WEIGHTS = 1 << 12
"""Smaller matrices are not worth cutting."""

WORTH_CUTTING = 0.8
"""Share of a curve's entries, at most, that must be left."""


class Cuts:
    """The entries of curves between linear layers that can matter, and the matrices they leave.

    A backward pass carries coefficients of such a curve, and of the layer it reads, for the
    `entries` alone.

    Args:
        graph: a prepared graph.
        rows: its operators' rows.
        box: the box of a node, once it is known.
    """

    def __init__(self, graph: Graph, rows: dict[str, Row], box: Callable[[str], Box]) -> None:
        self._rows, self._box, self._nodes = rows, box, graph.by_name()
        self._readers, self._output = graph.readers(), graph.output
        self._entries: dict[str, Tensor | None] = {}
        self._weights: dict[str, tuple[Tensor, Tensor | None]] = {}

    def entries(self, name: str) -> Tensor | None:
        """Numbers of the curve's entries that are kept; None: all, or it is no such curve."""
        if name not in self._entries:
            self._entries[name] = self._left(self._nodes[name])
        return self._entries[name]

    def of_layer(self, node: Node) -> Tensor | None:
        """`entries` of the curve that reads a layer."""
        if node.op != "linear" or len(self._readers[node.name]) != 1:
            return None
        return self.entries(self._readers[node.name][0].name)

    def weight(self, node: Node) -> tuple[Tensor, Tensor | None]:
        """Matrix and bias of a flat linear layer for what is kept before and behind it."""
        if node.name not in self._weights:
            weight, bias = node.tensors["weight"], node.tensors.get("bias")
            if (out := self.of_layer(node)) is not None:
                weight = weight.index_select(0, out)
                bias = None if bias is None else bias.index_select(0, out)
            if (into := self.entries(node.inputs[0])) is not None:
                weight = weight.index_select(1, into)
            self._weights[node.name] = (weight, bias)
        return self._weights[node.name]

    def cut(self, name: str, coefficients: Tensor) -> Tensor:
        """Coefficients ``(S, B, ...)`` of a whole value, without what is left out."""
        kept = self.entries(name)
        return coefficients if kept is None else coefficients.index_select(2, kept)

    def _left(self, node: Node) -> Tensor | None:
        row = self._rows.get(node.name)
        if node.op == INPUT or not isinstance(row, Curve) or len(node.shape) != 1:
            return None
        layer = self._nodes[node.inputs[0]]
        alone = len(self._readers[layer.name]) == 1 and layer.name != self._output
        flat = layer.op == "linear" and len(layer.shape) == 1
        if not (alone and flat) or layer.tensors["weight"].numel() < LEAST_WEIGHTS:
            return None
        if layer.tensors["weight"].requires_grad:
            return None
        dead = row.dead(self._box(layer.name))
        if dead is None:
            return None
        kept = (~dead.all(0)).nonzero().squeeze(1)
        return kept if len(kept) <= WORTH_CUTTING * node.shape[0] else None


class Uncut(Cuts):
    """All entries are kept."""

    def entries(self, name: str) -> Tensor | None:
        """All."""
        return None
