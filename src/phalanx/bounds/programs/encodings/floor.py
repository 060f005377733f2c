"""The largest whole number that is not above: in exact encodings a whole number itself."""

from __future__ import annotations

import numpy as np

from phalanx.bounds.programs.encode import Sheet, encodings
from phalanx.bounds.programs.encodings.curve import curve
from phalanx.bounds.programs.program import Forms
from phalanx.graph.ir import Node


@encodings.register("floor")
def floor(node: Node, sheet: Sheet) -> Forms:
    """``y <= x <= y + 1``: at a whole x the number before it is allowed too."""
    found = curve(node, sheet)
    lower, upper = sheet.box(node.inputs[0])
    low, high = sheet.box(node.name)
    open_ = np.flatnonzero((low < high) & np.isfinite(lower) & np.isfinite(upper))
    if not sheet.exact or not len(open_):
        return found
    draft = sheet.draft
    mask = np.zeros(len(lower), dtype=bool)
    mask[open_] = True
    x = draft.forms(sheet.columns(node.inputs[0], mask)[open_])
    steps = np.floor(lower[open_]), np.floor(upper[open_])
    whole = draft.forms(draft.add_columns(*steps, whole=True))
    draft.between(x.minus(whole), 0.0, 1.0)
    draft.between(found.take(open_).minus(whole), 0.0, 0.0)
    return found
