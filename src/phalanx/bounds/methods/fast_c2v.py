"""FastC2V (Tjandraatmadja et al. 2020): CROWN once more, with upper lines over whole sums.

A first pass says where CROWN's relaxation is least; there every ReLU takes the cut that lies lowest
if it lies below the line, and a second pass goes back through these cuts, past the layer between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.ops import Affine, Curve, Lines, beneath
from phalanx.bounds.planes import Plane, SumPlanes
from phalanx.bounds.problem import Problem, methods
from phalanx.bounds.programs.matrices import Matrices
from phalanx.bounds.programs.strengthened import LARGEST, Sums, strongest, sums
from phalanx.graph.ir import INPUT, Node
from phalanx.graph.operators import OPERATORS


@dataclass(frozen=True, eq=False)
class Cut:
    """Upper bounds of some entries of a ReLU layer over its sums' source.

    Attributes:
        source: whose entries the sums are of.
        entries: ``(k,)`` into the flat layer.
        slope, constant: ``(k, m)`` and ``(k,)``.
    """

    source: str
    entries: Tensor
    slope: Tensor
    constant: Tensor


@methods.register("fast-c2v", above="crown")
def fast_c2v(problem: Problem) -> Tensor:
    """Never below CROWN on the same boxes; rows and elements are taken one by one."""
    engine = problem.engine(Settings())
    engine.bound_all()
    found = engine.least({problem.graph.output: problem.rows}, None).fmax(problem.by_boxes(engine))
    matrices = Matrices()
    layers = {
        node.name: layer
        for node in problem.graph
        if node.op == "relu" and (layer := sums(engine, matrices, node.inputs[0])) is not None
    }
    if not layers:
        return found
    for element in range(len(problem.region)):
        part = engine.part(element)
        for row in problem.asked(found[:, element]):
            pass_ = _Pass(part, layers)
            wanted = problem.rows[row : row + 1, element : element + 1]
            pass_.back(wanted, {})
            cuts = pass_.cuts()
            better = pass_.back(wanted, cuts)
            found[row, element] = found[row, element].fmax(better.squeeze())
            if cuts:
                problem.trace.planes[row, element] = pass_.planes
            if problem.ends(found[row, element], row, element):
                break
    return found


class _Pass:
    """Passes of one row over one element; the first leaves coefficients for `cuts`."""

    def __init__(self, engine: Engine, layers: Mapping[str, Sums]) -> None:
        self.engine, self.layers = engine, layers
        self.coefficients: dict[str, Tensor] = {}
        self.planes: list[Plane] = []

    def back(self, rows: Tensor, cuts: Mapping[str, Cut]) -> Tensor:
        """A lower bound ``(1, 1)`` of rows ``(1, 1, *output shape)``."""
        engine = self.engine
        pending, found = {engine.graph.output: rows}, rows.new_zeros(1, 1)

        def add(name: str, part: Tensor) -> None:
            pending[name] = pending[name] + part if name in pending else part

        for node in reversed(engine.graph.nodes):
            coefficients = pending.pop(node.name, None)
            if coefficients is None:
                continue
            self.coefficients[node.name] = coefficients
            if node.op == INPUT:
                found = found + engine.region.least(coefficients)
                continue
            if node.name in cuts:
                cut = cuts[node.name]
                coefficients, taken = _through(cut, coefficients)
                source = engine.nodes[cut.source]
                add(source.name, (taken @ cut.slope).reshape(1, 1, *source.shape))
                found = found + taken @ cut.constant
                scaled = -taken[:, None] * cut.slope
                self.planes.append(SumPlanes(node.name, source.name, cut.entries, -taken, scaled))
            parts, constant = self._step(node, coefficients)
            found = found if constant is None else found + constant
            for name, part in zip(node.inputs, parts, strict=True):
                add(name, part)
        return found

    def _step(self, node: Node, coefficients: Tensor) -> tuple[list[Tensor], Tensor | None]:
        row = self.engine.rows[node.name]
        if isinstance(row, Curve):
            part, constant = beneath(coefficients, self.engine.lines(node))
            return [part], constant
        boxes = [self.engine.boxes[name] for name in node.inputs]
        return row.backward(node, boxes, coefficients)

    def cuts(self) -> dict[str, Cut]:
        """Forward from where the first pass is least; values ``(1, *shape)`` of the relaxation.

        A curve's value is on the line that the pass took, or on the cut that lies lower.
        """
        engine = self.engine
        values: dict[str, Tensor] = {}
        found: dict[str, Cut] = {}
        for node in engine.graph:
            coefficients = self.coefficients.get(node.name)
            if node.op == INPUT:
                start = (
                    engine.region.centre if coefficients is None else _worst(engine, coefficients)
                )
                values[node.name] = start
                continue
            row, inputs = engine.rows[node.name], [values[name] for name in node.inputs]
            if isinstance(row, Curve) and coefficients is not None:
                on = _on_lines(engine.lines(node), inputs[0], coefficients[0])
                if node.name in self.layers:
                    on = self._cut(node, on, coefficients[0], values, found)
                values[node.name] = on
            elif isinstance(row, Affine):
                shift = row.offset(node)
                image = row.linear(node, *inputs)
                values[node.name] = image if shift is None else image + shift
            else:
                values[node.name] = OPERATORS[node.op](node, *inputs)
        return found

    def _cut(
        self,
        node: Node,
        on: Tensor,
        coefficients: Tensor,
        values: Mapping[str, Tensor],
        found: dict[str, Cut],
    ) -> Tensor:
        """Values ``(1, *shape)``, lowered where there is a cut, which goes to ``found``."""
        layer, box = self.layers[node.name], self.engine.boxes[node.inputs[0]]
        open_ = (box.lower < 0) & (box.upper > 0) & (coefficients < 0)
        entries = open_.flatten().nonzero().squeeze(1)
        source = self.engine.boxes[layer.source]
        bounded = bool((torch.isfinite(source.lower) & torch.isfinite(source.upper)).all())
        if not len(entries) or len(entries) * layer.weights.shape[1] > LARGEST or not bounded:
            return on
        x = values[layer.source].reshape(-1)
        picked = torch.from_numpy(layer.weights[entries.numpy()].toarray()).to(x.dtype)
        shift = torch.from_numpy(layer.shift[entries.numpy()]).to(x.dtype)
        sides = source.lower.reshape(-1), source.upper.reshape(-1)
        slope, constant, there = strongest(picked, shift, sides, x)
        flat = on.flatten().clone()
        lower = there & (slope @ x + constant < flat[entries])
        if bool(lower.any()):
            cut = Cut(layer.source, entries[lower], slope[lower], constant[lower])
            found[node.name] = cut
            flat[cut.entries] = cut.slope @ x + cut.constant
        return flat.reshape(on.shape)


def _through(cut: Cut, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """What is left for lines, and what goes through the cuts ``(k,)``."""
    flat = coefficients.flatten().clone()
    taken = flat[cut.entries].clamp_max(0)  # a lower bound has use for upper bounds of these only
    flat[cut.entries] -= taken
    return flat.reshape(coefficients.shape), taken


def _on_lines(lines: Lines, x: Tensor, coefficients: Tensor) -> Tensor:
    sides = ((lines.lower_slope, lines.lower_offset), (lines.upper_slope, lines.upper_offset))
    low, high = (s * x if o is None else s * x + o for s, o in sides)
    return torch.where(coefficients < 0, high, low)


def _worst(engine: Engine, coefficients: Tensor) -> Tensor:
    """Where rows are least, ``(1, *shape)``: a corner of the box, or a point of an l2 ball."""
    region = engine.region
    if region.norm != "l2":
        return region.worst(coefficients)[0]
    length = torch.linalg.vector_norm(coefficients).clamp_min(1e-30)
    moved = region.centre - region.eps * coefficients[0] / length
    return moved.maximum(region.lower).minimum(region.upper)
