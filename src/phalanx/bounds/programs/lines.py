"""All lines that a program may have of a curve: its rows' at several places, or a hull's sides."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from phalanx.bounds.ops import Curve
from phalanx.bounds.outward.curves import STRAIGHT, corners
from phalanx.bounds.programs.program import Floats, Mask
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS

PLACES = (None, 0.0, 0.25, 0.5, 0.75, 1.0)
"""Where tangents touch: where a single one would, and from end to end."""

TIGHT = 1e-12
"""How far a side of a hull may miss a corner, in units of the values."""

STEEPEST = 1e9
"""Steeper lines are left out: what a solver makes of such numbers is of no use."""

Lines = list[tuple[Floats, Floats, Mask]]
"""Slopes and offsets ``(n,)``, and the entries that have such a line."""


def family(row: Curve, node: Node, lower: Floats, upper: Floats) -> tuple[Lines, Lines]:
    """Lines below and above a curve on the intervals ``[lower, upper]``, none twice.

    >>> from phalanx.bounds.ops import rows
    >>> relu = Node("y", "relu", ("x",), (1,))
    >>> below, above = family(rows.get("relu"), relu, np.array([-1.0]), np.array([3.0]))
    >>> [line[0].item() for line in below], [line[0].item() for line in above]
    ([0.0, 1.0], [0.75])
    """
    if node.op in STRAIGHT:
        return hull(node, lower, upper)
    ends = torch.from_numpy(lower)[None], torch.from_numpy(upper)[None]
    below: Lines = []
    above: Lines = []
    for at in PLACES if row.parameters else (None,):
        place = None if at is None else torch.full((row.parameters, 1, len(lower)), at).double()
        found = row.lines(node, *ends, place)
        shape = ends[0].shape
        _keep(below, _flat(found.lower_slope, shape), _flat(found.lower_offset, shape))
        _keep(above, _flat(found.upper_slope, shape), _flat(found.upper_offset, shape))
    return below, above


def hull(node: Node, lower: Floats, upper: Floats) -> tuple[Lines, Lines]:
    """The convex hull of a function of straight pieces: lines through two of its corners.

    Every line is moved until all corners are on its right side, so each holds by itself.
    """
    x, y = points(node, lower, upper)
    below: Lines = []
    above: Lines = []
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            wide = x[j] > x[i]
            slope = (y[j] - y[i]) / np.where(wide, x[j] - x[i], 1.0)
            rest = y - slope * x
            near = TIGHT * (1 + np.abs(y).max(0) + np.abs(slope * x).max(0))
            both = np.maximum(rest[i], rest[j]), np.minimum(rest[i], rest[j])
            _keep(below, slope, rest.min(0), wide & (both[0] - rest.min(0) <= near))
            _keep(above, slope, rest.max(0), wide & (rest.max(0) - both[1] <= near))
    return below, above


def points(node: Node, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Ends and corners ``(m, n)`` of a function of straight pieces, and its values there."""
    ends = torch.from_numpy(lower), torch.from_numpy(upper)
    inner = sorted(corners(node))
    x = torch.stack([ends[0], *(ends[0].clamp_min(c).minimum(ends[1]) for c in inner), ends[1]])
    return _numbers(x), _numbers(OPERATORS[node.op](node, x))


def _keep(lines: Lines, slope: Floats, offset: Floats, mask: Mask | None = None) -> None:
    known = (np.abs(slope) < STEEPEST) & (np.abs(offset) < STEEPEST)  # NaN is not
    known = known if mask is None else known & mask
    for other, shift, there in lines:
        known = known & ~(there & (other == slope) & (shift == offset))
    if known.any():
        lines.append((np.where(known, slope, 0.0), np.where(known, offset, 0.0), known))


def _flat(values: Tensor | None, shape: torch.Size) -> Floats:
    found = torch.zeros(shape).double() if values is None else values
    return _numbers(found.reshape(-1, found.shape[-1])[0].expand(shape[-1]))


def _numbers(values: Tensor) -> Floats:
    return np.asarray(values.double().numpy(), dtype=np.float64)
