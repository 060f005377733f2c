"""Affine forms carried forward: a cheap first look at every value, for networks of few inputs.

A value is ``centre + sum_i e_i coefficients_i`` with every e_i in [-1, 1], one for each number of
the input, up to an error: a zonotope (Singh et al. 2018) whose later generators are added up at
once. Where few signs are open the errors are small, and most of what intervals leave open is
settled before any backward pass is spent on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from phalanx.bounds.ops import Affine, Box, Curve, Lines, merged, rows
from phalanx.graph.ir import INPUT, Graph, Node

if TYPE_CHECKING:
    from phalanx.bounds.engine import Engine

FEW = 16
"""Numbers of the input up to which forms cost less than they spare."""


SETTLED = ("relu", "leaky-relu", "abs", "clip")
"""Curves of straight pieces: where a box shows which piece it is, no pass is needed."""


def worthwhile(graph: Graph) -> bool:
    """Whether forms settle enough to be made.

    >>> worthwhile(Graph((Node("x", INPUT, (), (3,)), Node("y", "relu", ("x",), (3,))), "y"))
    True
    """
    few = torch.Size(graph.input.shape).numel() <= FEW
    return few and all(
        isinstance(rows.get(node.op), Affine) or node.op in SETTLED
        for node in graph
        if node.op != INPUT
    )


@dataclass(frozen=True, eq=False)
class Form:
    """``|value - centre - sum_i e_i coefficients_i| <= error`` for inputs of the region.

    Attributes:
        coefficients: ``(I, B, *shape)``.
        centre, error: ``(B, *shape)``.
    """

    coefficients: Tensor
    centre: Tensor
    error: Tensor


class Forms:
    """The form of every node of an engine's graph, made in order.

    Args:
        engine: its boxes of earlier nodes are those that lines are taken on.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self.region = engine, engine.region
        self.inputs = torch.Size(engine.graph.input.shape).numel()
        self.found: dict[str, Form] = {}

    def cut(self, node: Node, box: Box) -> Box:
        """The box of the next node, intersected with what its form says."""
        form = self._of(node, box)
        self.found[node.name] = form
        reach = form.coefficients.abs().sum(0) + form.error
        lower, upper = box.lower.fmax(form.centre - reach), box.upper.fmin(form.centre + reach)
        return Box(lower.minimum(upper), lower.maximum(upper))

    def _of(self, node: Node, box: Box) -> Form:
        if node.op == INPUT:
            return self._first()
        row = self.engine.rows[node.name]
        if isinstance(row, Affine) and node.inputs:
            return self._affine(row, node)
        if isinstance(row, Curve):
            return self._curved(node)
        shape = (len(self.region), *node.shape)
        centre, error = box.centre.expand(shape), box.radius.expand(shape)
        return Form(centre.new_zeros(self.inputs, *shape), centre, error)

    def _first(self) -> Form:
        region = self.region
        units = torch.diag_embed(region.half).movedim(1, 0)
        centre = region.middle.reshape(region.lower.shape)
        units = units.reshape(self.inputs, *region.lower.shape)
        return Form(units, centre, torch.zeros_like(centre))

    def _affine(self, row: Affine, node: Node) -> Form:
        sources = [self.found[name] for name in node.inputs]
        centre = row.linear(node, *(source.centre for source in sources))
        if (offset := row.offset(node)) is not None:
            centre = centre + offset
        moved = row.linear(node, *(merged(source.coefficients) for source in sources))
        error = row.magnitude(node, *(source.error for source in sources))
        return Form(moved.reshape(self.inputs, len(self.region), *node.shape), centre, error)

    def _curved(self, node: Node) -> Form:
        """``f(x) - s x`` lies between its values at the ends of the lines."""
        source, box = self.found[node.inputs[0]], self.engine.boxes[node.inputs[0]]
        lines = self._parallel(node, box)
        slope = lines.upper_slope
        tilt = lines.lower_slope - slope
        low = torch.minimum(tilt * box.lower, tilt * box.upper)
        low = low if lines.lower_offset is None else low + lines.lower_offset
        high = torch.zeros_like(low) if lines.upper_offset is None else lines.upper_offset
        error = slope.abs() * source.error + (high - low) / 2
        return Form(slope * source.coefficients, slope * source.centre + (low + high) / 2, error)

    def _parallel(self, node: Node, box: Box) -> Lines:
        """Lines as parallel as there are: the error is smallest then."""
        row = self.engine.rows[node.name]
        if not isinstance(row, Curve) or not row.parameters:
            return self.engine.lines(node)
        return row.lines(node, *box, row.start(node, [box], parallel=True)[:, 0])
