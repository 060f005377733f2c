"""The slopes of lower lines that a program's multipliers mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from phalanx.bounds.engine import Engine
from phalanx.bounds.ops import Curve
from phalanx.bounds.planes import Plane
from phalanx.bounds.problem import Problem
from phalanx.bounds.programs.cuts import Cuts
from phalanx.bounds.programs.encode import Encoding, Written
from phalanx.bounds.programs.program import Floats, Program
from phalanx.bounds.programs.solver import Solution


@dataclass(frozen=True, eq=False)
class Told:
    """What a solver told of one row of a problem.

    Attributes:
        encoding: of one element.
        program: the encoding's, with all rows that were added.
        cost, solution: what was minimised, and the answer.
        added: the cuts behind the encoding's own rows.
    """

    encoding: Encoding
    program: Program
    cost: Floats
    solution: Solution
    added: tuple[Cuts, ...] = ()


def tell(problem: Problem, engine: Engine, told: Told, at: tuple[int, int]) -> None:
    """Write the slopes of ReLUs (leaky ones too), and planes, into the problem's trace.

    Args:
        problem, engine: what is bounded, and the boxes it is bounded on.
        told: of one row.
        at: that row and its element.
    """
    multipliers = told.solution.multipliers
    if multipliers is None or len(multipliers) != told.program.rows:
        return
    if planes := _planes(told, multipliers):
        problem.trace.planes[at] = planes
    rest = told.cost - multipliers @ told.program.matrix
    places, (row, element) = problem.trace.places, at
    for name, written in told.encoding.curves.items():
        node, curve = engine.nodes[name], engine.rows[name]
        least = 0.0 if node.op == "relu" else node.attributes.get("slope", 1.0)
        if node.op not in ("relu", "leaky-relu") or not least < 1 or not isinstance(curve, Curve):
            continue
        if name not in places:
            start = curve.start(node, [engine.boxes[node.inputs[0]]])
            places[name] = start.expand(len(start), *problem.rows.shape[:2], *node.shape).clone()
        slope = weighed_slopes(written, rest, multipliers)
        known = np.flatnonzero(np.isfinite(slope))
        share = torch.from_numpy((slope[known] - least) / (1 - least)).clamp(0, 1)
        flat = places[name][0, row, element].reshape(-1)
        flat[torch.from_numpy(written.entries[known])] = share.to(flat.dtype)


def _planes(told: Told, multipliers: Floats) -> list[Plane]:
    """What the cuts with multipliers mean; those without are left out."""
    found, start = [], told.encoding.program.rows
    for cuts in told.added:
        own = np.maximum(-multipliers[start : start + len(cuts.most)], 0.0)
        start += len(own)
        if cuts.plane is not None and own.any():
            found.append(cuts.plane(own))
    return found


def weighed_slopes(written: Written, rest: Floats, multipliers: Floats) -> Floats:
    """Means of the slopes of lower lines, weighed by the multipliers of these; NaN where all are 0.

    The box's own lower side is a line too, of slope zero, with what is left of the cost.

    Args:
        written: a curve's entries.
        rest: what the multipliers leave of the cost ``(columns,)``.
        multipliers: of the rows.
    """
    weight = np.maximum(rest[written.columns], 0.0)
    total = np.zeros(len(weight))
    for rows, slope in written.below:
        share = np.where(rows >= 0, np.maximum(multipliers[np.maximum(rows, 0)], 0.0), 0.0)
        weight, total = weight + share, total + share * slope
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan)
