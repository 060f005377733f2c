"""The product of two variables: McCormick's four planes (1976)."""

from __future__ import annotations

from math import prod

import numpy as np

from phalanx.bounds.programs.encode import LARGEST, Sheet, encodings
from phalanx.bounds.programs.program import Floats, Forms, Indices
from phalanx.errors import GraphError
from phalanx.graph.ir import Node


@encodings.register("mul")
def mul(node: Node, sheet: Sheet) -> Forms:
    """Either may be broadcast."""
    shapes = node.attributes["inputs"]
    x, y = (
        np.broadcast_to(np.arange(prod(shape)).reshape(shape), node.shape).reshape(-1)
        for shape in shapes
    )
    return products(node, sheet, x, y)


def products(node: Node, sheet: Sheet, x: Indices, y: Indices) -> Forms:
    """Products of entries ``x`` of a node's first input with entries ``y`` of its second.

    Where one of them is a point the product is linear.

    Raises:
        GraphError: more products than a program is worth.
    """
    if len(x) > LARGEST:
        raise GraphError(
            f"node {node.name!r} ({node.op}) has {len(x)} products", why=f"at most {LARGEST}"
        )
    first, second = node.inputs
    (lx, ux), (ly, uy) = (
        tuple(side[at] for side in sheet.box(name)) for name, at in ((first, x), (second, y))
    )
    open_ = (lx < ux) & (ly < uy)
    total = _linear(sheet.forms[second].take(y), lx, ~open_ & (lx == ux))
    total = total.plus(_linear(sheet.forms[first].take(x), ly, ~open_ & (lx < ux)))
    at = np.flatnonzero(open_)
    if not len(at):
        return total
    sheet.complete = False
    lx, ux, ly, uy = lx[at], ux[at], ly[at], uy[at]
    held = [
        sheet.columns(name, _mask(sheet, name, entries[at]))[entries[at]]
        for name, entries in ((first, x), (second, y))
    ]
    low, high = _extremes(lx, ux, ly, uy)
    fresh = sheet.draft.add_columns(low, high)
    a, b, c = (sheet.draft.forms(columns) for columns in (*held, fresh))
    for p, q, above in ((lx, ly, False), (ux, uy, False), (lx, uy, True), (ux, ly, True)):
        # c - q a - p b >= -p q below, <= -p q above, for the corner (p, q).
        known = np.flatnonzero(np.isfinite(p) & np.isfinite(q))
        plane = c.minus(a.times(_finite(q))).minus(b.times(_finite(p))).take(known)
        corner = -(p[known] * q[known])
        sheet.draft.between(plane, -np.inf if above else corner, corner if above else np.inf)
    places = np.zeros(len(x), dtype=np.intp)
    places[at] = fresh
    return total.plus(sheet.draft.forms(places).times(open_.astype(np.float64)))


def _linear(forms: Forms, factors: Floats, where: np.ndarray) -> Forms:
    return forms.times(np.where(where, factors, 0.0))


def _mask(sheet: Sheet, name: str, entries: Indices) -> np.ndarray:
    found = np.zeros(len(sheet.box(name)[0]), dtype=bool)
    found[entries] = True
    return found


def _extremes(lx: Floats, ux: Floats, ly: Floats, uy: Floats) -> tuple[Floats, Floats]:
    with np.errstate(invalid="ignore"):
        corners = np.stack([lx * ly, lx * uy, ux * ly, ux * uy])
    corners = np.nan_to_num(corners, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return corners.min(0), corners.max(0)


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, 0.0)
