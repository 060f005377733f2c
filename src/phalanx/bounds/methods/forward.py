"""Forward linear bounds (LiRPA's forward mode, Xu et al. 2020), for networks of few inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.bounds.engine import Engine, Settings, known
from phalanx.bounds.ops import Affine, Box, Curve, merged
from phalanx.bounds.problem import Problem, methods
from phalanx.graph.ir import INPUT, Node


@dataclass(frozen=True, eq=False)
class Pair:
    """``lower(x) <= value <= upper(x)``, both linear in the input.

    Attributes:
        lower, upper: coefficients ``(I, B, *shape)``, one for each number of the input.
        low, high: constants ``(B, *shape)``.
    """

    lower: Tensor
    upper: Tensor
    low: Tensor
    high: Tensor


@methods.register("forward")
def forward(problem: Problem) -> Tensor:
    """One pass whose cost grows with the number of inputs, and not with that of layers squared."""
    engine = problem.engine(Settings(backward=False))
    problem.trace.backward = True  # boxes alone would not bear these bounds out, backward passes do
    pairs: dict[str, Pair] = {}
    for node in problem.graph:
        box = engine.interval(node)
        pairs[node.name] = _image(engine, node, box, pairs)
        engine.boxes[node.name] = _cut(engine, box, pairs[node.name])
    last = pairs[problem.graph.output]
    rows = problem.rows.flatten(2)
    positive, negative = rows.clamp_min(0), rows.clamp_max(0)
    coefficients = _combined(positive, last.lower) + _combined(negative, last.upper)
    constant = (positive * last.low.flatten(1) + negative * last.high.flatten(1)).sum(2)
    inputs = coefficients.reshape(*rows.shape[:2], *problem.graph.input.shape)
    return (engine.region.least(inputs) + constant).fmax(problem.by_boxes(engine))


def _combined(rows: Tensor, coefficients: Tensor) -> Tensor:
    return torch.einsum("sbn,ibn->sbi", rows, coefficients.flatten(2))


def _image(engine: Engine, node: Node, box: Box, pairs: dict[str, Pair]) -> Pair:
    if node.op == INPUT:
        return _identity(engine, node)
    row, sources = engine.rows[node.name], [pairs[name] for name in node.inputs]
    if isinstance(row, Affine):
        return _affine(row, node, sources)
    if isinstance(row, Curve):
        return _curved(engine, node, sources[0])
    shape = (len(engine.region), *node.shape)
    zero = box.lower.new_zeros(torch.Size(engine.graph.input.shape).numel(), *shape)
    return Pair(zero, zero, box.lower.expand(shape), box.upper.expand(shape))


def _identity(engine: Engine, node: Node) -> Pair:
    size = torch.Size(node.shape).numel()
    unit = torch.eye(size, dtype=engine.region.lower.dtype).unsqueeze(1)
    unit = unit.expand(size, len(engine.region), size).reshape(size, -1, *node.shape)
    zero = torch.zeros_like(engine.region.lower)
    return Pair(unit, unit, zero, zero)


def _affine(row: Affine, node: Node, sources: list[Pair]) -> Pair:
    """``W+ L + W- U = W (L + U) / 2 - |W| (U - L) / 2``, coefficient by coefficient."""

    def through(low: list[Tensor], high: list[Tensor]) -> tuple[Tensor, Tensor]:
        pairs = list(zip(low, high, strict=True))
        middle = row.linear(node, *((b + a) / 2 for a, b in pairs))
        half = row.magnitude(node, *((b - a) / 2 for a, b in pairs))
        return middle - half, middle + half

    flat = [[merged(s.lower) for s in sources], [merged(s.upper) for s in sources]]
    lower, upper = through(*flat)
    low, high = through([s.low for s in sources], [s.high for s in sources])
    if (offset := row.offset(node)) is not None:
        low, high = low + offset, high + offset
    shape = (*sources[0].lower.shape[:2], *node.shape)
    return Pair(lower.reshape(shape), upper.reshape(shape), low, high)


def _curved(engine: Engine, node: Node, source: Pair) -> Pair:
    lines = engine.lines(node)
    up, down = lines.lower_slope.clamp_min(0), lines.lower_slope.clamp_max(0)
    lower, low = up * source.lower + down * source.upper, up * source.low + down * source.high
    up, down = lines.upper_slope.clamp_min(0), lines.upper_slope.clamp_max(0)
    upper, high = up * source.upper + down * source.lower, up * source.high + down * source.low
    low = low if lines.lower_offset is None else low + lines.lower_offset
    high = high if lines.upper_offset is None else high + lines.upper_offset
    return Pair(lower, upper, low, high)


def _cut(engine: Engine, box: Box, pair: Pair) -> Box:
    """The box cut with the least and the largest value of the two functions."""
    region = engine.region
    shape = (len(region), *pair.lower.shape[2:])

    def least(coefficients: Tensor, constant: Tensor) -> Tensor:
        rows = coefficients.flatten(2).permute(2, 1, 0)
        rows = rows.reshape(*rows.shape[:2], *engine.graph.input.shape)
        return region.least(rows).T.reshape(shape) + constant

    low, high = least(pair.lower, pair.low), -least(-pair.upper, -pair.high)
    lower, upper = box.lower.fmax(low), box.upper.fmin(high)
    return known(Box(lower.minimum(upper), lower.maximum(upper)))
