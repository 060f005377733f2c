"""A function of one number by its lines; of straight pieces also exactly, by whole numbers."""

from __future__ import annotations

import numpy as np

from phalanx.bounds.ops import Curve, rows
from phalanx.bounds.outward.curves import STRAIGHT, corners
from phalanx.bounds.programs.encode import Sheet, Written, encodings
from phalanx.bounds.programs.lines import TIGHT, Lines, family, points
from phalanx.bounds.programs.program import Floats, Forms, Indices, Mask, stacked
from phalanx.graph.ir import Node


@encodings.register("curve")
def curve(node: Node, sheet: Sheet) -> Forms:
    """A point where the box is one, the line where there is only one, else a column of its own.

    The exact encoding writes a function of straight pieces as ``s x + sum_c w_c relu(x - c)``, and
    each ramp with one whole number (big-M, the boxes' sides for M).
    """
    row = rows.get(node.op)
    if not isinstance(row, Curve):
        raise TypeError(f"{node.op} is no curve")
    source = node.inputs[0]
    (lower, upper), (low, high) = sheet.box(source), sheet.box(node.name)
    below, above = family(row, node, lower, upper)
    point = low == high
    columns = sheet.columns(source, np.ones_like(point) if sheet.kept else ~point)
    line, slope, shift = _only_line((below, above), len(low))
    line &= ~point
    open_ = ~point & ~line
    fresh = sheet.fresh(node.name, open_, _implied(node, below, above, low, high))
    entries = np.flatnonzero(open_)
    _write_lines(node, sheet, (below, above), columns=columns, entries=entries, fresh=fresh)
    if open_.any():
        if sheet.exact and node.op in STRAIGHT:
            sides = lower[open_], upper[open_]
            _write_pieces(node, sheet, columns[open_], fresh, sides)
        else:
            sheet.complete = False
    chosen = np.where(open_, 0, np.where(line, columns, 0))
    chosen[open_] = fresh
    factors = np.where(open_, 1.0, np.where(line, slope, 0.0))
    constants = np.where(point, low, np.where(line, shift, 0.0))
    if not sheet.draft.columns:
        return Forms.constant(constants)
    found = sheet.draft.forms(chosen).times(factors).plus(Forms.constant(constants))
    found.matrix.eliminate_zeros()
    return found


def _implied(
    node: Node, below: Lines, above: Lines, low: Floats, high: Floats
) -> tuple[Mask, Mask] | None:
    """Where no side of a hull is flat, the hull's other sides and the argument's box say more."""
    if node.op not in STRAIGHT:
        return None
    found = []
    for lines, side in ((below, low), (above, high)):
        lined, flat = np.zeros(len(low), dtype=bool), np.zeros(len(low), dtype=bool)
        for slope, shift, there in lines:
            lined |= there
            flat |= there & (slope == 0) & (shift == side)
        found.append(lined & ~flat)
    return found[0], found[1]


def _only_line(lines: tuple[Lines, Lines], size: int) -> tuple[Mask, Floats, Floats]:
    """Where one line is all there is on both sides, its slope and its offset."""
    count, slopes, shifts = np.zeros((2, size)), np.zeros((2, size)), np.zeros((2, size))
    for side, parts in enumerate(lines):
        for slope, shift, there in parts:
            count[side] += there
            slopes[side] += slope
            shifts[side] += shift
    near = np.abs(shifts[0] - shifts[1]) <= TIGHT * (1 + np.abs(shifts[0]))
    return (count == 1).all(0) & (slopes[0] == slopes[1]) & near, slopes[0], shifts[0]


def _write_lines(
    node: Node,
    sheet: Sheet,
    lines: tuple[Lines, Lines],
    *,
    columns: Indices,
    entries: Indices,
    fresh: Indices,
) -> None:
    draft = sheet.draft
    written = Written(entries, fresh, [])
    floor = draft.lower[fresh]
    for side, parts in enumerate(lines):
        for slope, shift, there in parts:
            needed = there[entries]
            if side == 0:  # the column's own bound says the same
                needed = needed & ~((slope[entries] == 0) & (shift[entries] <= floor))
            chosen = np.flatnonzero(needed)
            if not len(chosen):
                continue
            at = entries[chosen]
            rest = draft.forms(fresh[chosen]).minus(draft.forms(columns[at]).times(slope[at]))
            ends = (shift[at], np.inf) if side == 0 else (-np.inf, shift[at])
            found = draft.between(rest, *ends)
            if side == 0:
                rows_ = np.full(len(entries), -1, dtype=np.intp)
                rows_[chosen] = found
                written.below.append((rows_, slope[entries]))
    sheet.curves[node.name] = written


def _write_pieces(
    node: Node, sheet: Sheet, columns: Indices, fresh: Indices, sides: tuple[Floats, Floats]
) -> None:
    """``y = f(l) + s (x - l) + sum_c w_c relu(x - c)``, w the change of slope at a corner."""
    lower, upper = sides
    x, y = points(node, lower, upper)
    wide = x[1:] > x[:-1]
    slopes = np.where(wide, y[1:] - y[:-1], 0.0) / np.where(wide, x[1:] - x[:-1], 1.0)
    draft = sheet.draft
    slope = slopes[0]
    for piece in range(
        1, len(slopes)
    ):  # a piece before the interval begins has no slope of its own
        slope = np.where(x[piece] > lower, slope, slopes[piece])
    total = draft.forms(fresh).minus(draft.forms(columns).times(slope))
    current = slope
    for piece, corner in enumerate(sorted(corners(node))):
        inside = (lower < corner) & (corner < upper)
        if not inside.any():
            continue
        ramp = _write_ramp(sheet, columns[inside], lower[inside], upper[inside], corner)
        weight = slopes[piece + 1][inside] - current[inside]
        total = total.minus(_spread(draft.forms(ramp).times(weight), inside))
        current = np.where(inside, slopes[piece + 1], current)
    constant = y[0] - slope * lower
    draft.between(total, constant, constant)


def _write_ramp(
    sheet: Sheet, columns: Indices, lower: Floats, upper: Floats, corner: float
) -> Indices:
    """``r = relu(z)``, ``z = x - corner``: ``z <= r <= z - l (1 - a)``, ``0 <= r <= u a``."""
    draft, size = sheet.draft, len(columns)
    low, high = lower - corner, upper - corner
    ramp = draft.add_columns(np.zeros(size), high)
    on = draft.add_columns(np.zeros(size), np.ones(size), whole=True)
    r, a = draft.forms(ramp), draft.forms(on)
    rest = r.minus(draft.forms(columns))  # r - x
    draft.between(rest, -corner, np.inf)
    draft.between(rest.minus(a.times(low)), -np.inf, -corner - low)
    draft.between(r.minus(a.times(high)), -np.inf, 0.0)
    return ramp


def _spread(forms: Forms, mask: Mask) -> Forms:
    """Forms at the places of a mask, zero elsewhere."""
    size, inside = len(mask), np.flatnonzero(mask)
    everything = stacked([forms, Forms.constant(np.zeros(1))])
    source = np.full(size, len(inside))
    source[inside] = np.arange(len(inside))
    return everything.take(source)
