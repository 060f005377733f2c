"""The largest of a window: above each entry, and, exactly, equal to a chosen one."""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from phalanx.bounds.ops.max_pool import windows
from phalanx.bounds.programs.encode import Sheet, encodings
from phalanx.bounds.programs.program import Floats, Forms, Indices, Mask
from phalanx.graph.ir import Node


@encodings.register("max-pool")
def max_pool(node: Node, sheet: Sheet) -> Forms:
    """A window that one entry wins for certain is that entry; others have a column.

    Above, ``y <= m + sum_i s_i (x_i - l_i)`` with m the largest lower bound, as in the operator's
    row; exactly, ``y <= x_i + (top - l_i)(1 - a_i)`` with one a_i equal to 1.
    """
    source = node.inputs[0]
    lower, upper = sheet.box(source)
    index = entries_of_windows(node)
    there = index >= 0
    low, high = (np.where(there, side[index], -np.inf) for side in (lower, upper))
    best = low.argmax(0)
    most = np.take_along_axis(low, best[None], 0)[0]
    above = high > most  # the entries that can be larger than the best one's lower bound
    np.put_along_axis(above, best[None], True, 0)
    open_ = above.sum(0) > 1
    needed = np.zeros(len(lower), dtype=bool)
    needed[index[above & open_]] = True
    columns = sheet.columns(source, needed)
    fresh = sheet.fresh(node.name, open_)
    if open_.any():
        chosen = columns[np.where(above, index, 0)][:, open_]
        _write(sheet, chosen, above[:, open_], fresh, (low[:, open_], high[:, open_]))
    winners = np.take_along_axis(index, best[None], 0)[0]
    return _merged(sheet, sheet.forms[source].take(winners), open_, fresh)


def _write(
    sheet: Sheet, columns: Indices, above: Mask, fresh: Indices, sides: tuple[Floats, Floats]
) -> None:
    """Windows ``(K, n)`` that are open, their columns, and which of their entries may win."""
    low, high = sides
    draft = sheet.draft
    y = draft.forms(fresh)
    with np.errstate(invalid="ignore"):
        top, width = high.max(0), np.where(above, high - low, 1.0)
        most = low.max(0)
        slope = np.where(above & (high > most), (high - most) / np.where(width > 0, width, 1.0), 0)
        start = np.where(slope > 0, slope * low, 0.0)
    roof, constant = y, most - start.sum(0)
    choices = []
    for k in range(len(columns)):
        at = np.flatnonzero(above[k])
        x = draft.forms(np.where(above[k], columns[k], 0))
        draft.between(y.take(at).minus(x.take(at)), 0.0, np.inf)
        roof = roof.minus(x.times(np.where(above[k], slope[k], 0.0)))
        if sheet.exact:
            choices.append((at, draft.add_columns(np.zeros(len(at)), np.ones(len(at)), whole=True)))
    known = np.flatnonzero(np.isfinite(constant))
    draft.between(roof.take(known), -np.inf, constant[known])
    if not sheet.exact:
        sheet.complete = False
        return
    y, total = draft.forms(fresh), Forms.constant(np.zeros(len(fresh)))
    for (at, on), x, least in zip(choices, columns, low, strict=True):
        room, a = top[at] - least[at], draft.forms(on)
        rest = y.take(at).minus(draft.forms(x[at])).plus(a.times(room))
        draft.between(rest, -np.inf, room)
        places = np.zeros(len(fresh), dtype=np.intp)
        places[at] = on
        share = np.zeros(len(fresh))
        share[at] = 1.0
        total = total.plus(draft.forms(places).times(share))
    draft.between(total, 1.0, 1.0)


def _merged(sheet: Sheet, winners: Forms, open_: Mask, fresh: Indices) -> Forms:
    """The winners' forms, and columns where the window is open."""
    if not len(fresh):
        return winners
    places = np.zeros(len(open_), dtype=np.intp)
    places[open_] = fresh
    opened = sheet.draft.forms(places).times(open_.astype(np.float64))
    return winners.times((~open_).astype(np.float64)).plus(opened)


def entries_of_windows(node: Node) -> Indices:
    """Flat indices ``(K, n)`` of the entries of every window; -1 where it sees none."""
    sizes = node.attributes["input"]
    numbers = torch.arange(prod(sizes), dtype=torch.float64).reshape(1, *sizes)
    found = windows(node, numbers, -1.0)[0]
    return np.asarray(found.flatten(1).long().numpy(), dtype=np.intp)
