"""-1, 0 or 1: in exact encodings two choices, both ends of the step included."""

from __future__ import annotations

import numpy as np

from phalanx.bounds.programs.encode import Sheet, encodings
from phalanx.bounds.programs.encodings.curve import curve
from phalanx.bounds.programs.program import Forms
from phalanx.graph.ir import Node


@encodings.register("sign")
def sign(node: Node, sheet: Sheet) -> Forms:
    """``y = a + b - 1`` with ``x <= u b``, ``x >= l (1 - a)`` and ``a >= b``.

    At zero all three values are allowed: the program's minimum is the function's greatest lower
    bound where the step can be approached from both sides, and below it elsewhere.
    """
    found = curve(node, sheet)
    lower, upper = sheet.box(node.inputs[0])
    open_ = np.flatnonzero((lower < 0) & (upper > 0))
    if not sheet.exact or not len(open_):
        return found
    draft, size = sheet.draft, len(open_)
    mask = np.zeros(len(lower), dtype=bool)
    mask[open_] = True
    x = draft.forms(sheet.columns(node.inputs[0], mask)[open_])
    least, most = (
        draft.forms(draft.add_columns(np.zeros(size), np.ones(size), whole=True)) for _ in range(2)
    )
    low, high = lower[open_], upper[open_]
    known = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
    low, high = (np.where(np.isfinite(side), side, 0.0) for side in (low, high))
    draft.between(x.minus(most.times(high)).take(known), -np.inf, 0.0)
    draft.between(x.plus(least.times(low)).take(known), low[known], np.inf)
    draft.between(least.minus(most), 0.0, np.inf)
    draft.between(found.take(open_).minus(least).minus(most), -1.0, -1.0)
    return found
