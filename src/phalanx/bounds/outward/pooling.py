"""The largest value of each window: means of entries below it, slopes of several above."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import pad

from phalanx.bounds.ops.max_pool import LEAST_WEIGHT
from phalanx.bounds.outward.affine import image
from phalanx.bounds.outward.rounding import UNDERFLOW, dot, gamma, up
from phalanx.bounds.outward.sums import Place, Sides, Sums
from phalanx.graph.ir import Node

Shape = tuple[int, ...]


class MaxPool:
    """``sum_i w_i x_i <= max_i x_i <= sum_i s_i x_i + c``, w of sum 1, any s in [0, 1].

    Weights are quotients by their sum, each within as many roundings of such a w as the window has
    entries, and one more: that is charged like the roundings of a product. On a box the slopes need
    ``c >= max_k ((1 - s_k) u_k + s_k l_k) - sum_i s_i l_i``: the largest entry is some k, of which
    s_k is counted already, and all others are at least at their lower ends. So slopes may be
    rounded, and c is computed for the slopes as they are.
    """

    def interval(self, node: Node, sides: Sequence[Sides]) -> tuple[Tensor, Tensor]:
        """It never falls, and nothing is rounded."""
        return image(node, [sides[0].lower]), image(node, [sides[0].upper])

    def loose(self, node: Node, side: Sides) -> Tensor:
        """Entries that might be the largest of a window that no entry wins for certain."""
        table = _table_of(node)
        lower, upper = _windows(side, table)
        most = lower.amax(0)
        open_ = ~_sure(lower, upper)
        might = open_ & (upper > most) & (lower < upper)
        found = torch.zeros(side.lower.numel() + 1, dtype=torch.bool)
        found[table[might]] = True
        return found[:-1].reshape(side.lower.shape)

    def back(
        self,
        node: Node,
        rows: Tensor,
        sides: Sequence[Sides],
        sums: Sums,
        place: Place | None = None,
    ) -> list[Tensor]:
        """Rows of windows, added up in the entries they came from."""
        table, (side,) = _table_of(node), sides
        below, above, offset = _planes(*_windows(side, table), place)
        flat, numbers = rows.flatten(1), side.lower.numel()
        positive, negative = flat.clamp_min(0), flat.clamp_max(0)
        found = flat.new_zeros(len(flat), numbers + 1)
        for number, entry in enumerate(table):
            part = positive * below[:, number] + negative * above[:, number]
            found.index_add_(1, entry, part)
        sums.add(*dot(negative, offset))
        # A place outside of the image that wins, where nothing is known of those inside, says so.
        most = torch.cat([side.most.flatten(), torch.full((1,), torch.inf).to(rows)])[table]
        size = (torch.maximum(below, above) * torch.where(below + above > 0, most, 0.0)).sum(1)
        shared = int(torch.bincount(table.flatten(), minlength=numbers + 1)[:-1].max())
        sums.lose(gamma(2 * shared + len(table) + 8), flat, size)
        return [found[:, :-1].reshape(len(rows), *node.attributes["inputs"][0])]


def _planes(lower: Tensor, upper: Tensor, place: Place | None) -> tuple[Tensor, Tensor, Tensor]:
    """Weights below and slopes above ``(S or 1, K, windows)``, and the offset above.

    Usually below, the entry whose lower end is largest, m. Usually above, the chords of all that
    exceed m, ``s_i = (u_i - m) / (u_i - l_i)``, or the largest upper end, whichever is less at the
    centre.

    Args:
        lower, upper: ends of the entries of windows ``(K, windows)``.
        place: other weights and slopes, ``(S or 1, K, *output shape)`` each.
    """
    best = lower.argmax(0, keepdim=True)
    most, top = lower.gather(0, best), upper.amax(0, keepdim=True)
    winner = torch.zeros_like(lower).scatter(0, best, 1.0)[None]
    sure = _sure(lower, upper)
    slope = torch.where(upper > most, (upper - most) / (upper - lower), 0.0)
    slope = slope.nan_to_num(0.0, 0.0, 0.0).clamp(0, 1)
    reach = most + (slope * torch.where(slope > 0, (upper - lower) / 2, 0.0)).sum(0, keepdim=True)
    slope = torch.where(reach < top, slope, 0.0)[None]
    weight = winner
    if place is not None:
        movable = ~sure & torch.isfinite(lower) & torch.isfinite(upper)
        weights, slopes = (torch.where(movable, part.flatten(2).clamp(0, 1), 0.0) for part in place)
        total = weights.sum(1, keepdim=True)
        weight = torch.where(total > LEAST_WEIGHT, weights / total, winner)
        slope = torch.where(movable, slopes, slope)
    offset = torch.where(sure, 0.0, _offset(slope, lower, upper))
    return weight, torch.where(sure, winner, slope), offset.squeeze(1)


def _offset(slope: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """What is above with those slopes ``(S, 1, windows)``: ``max_k (...) - sum_i s_i l_i``."""
    low = torch.where(slope > 0, lower, 0.0)
    tops = ((1 - slope) * upper + slope * low).amax(1, keepdim=True)
    start = (slope * low).sum(1, keepdim=True)
    ends = torch.where(torch.isfinite(upper), upper.abs(), 0.0).maximum(low.abs())
    size = ends.amax(1, keepdim=True) + (slope * low.abs()).sum(1, keepdim=True)
    return up(tops - start + (gamma(len(lower) + 12) * size + UNDERFLOW))


def _sure(lower: Tensor, upper: Tensor) -> Tensor:
    """Windows whose entry of the largest lower end is the largest for certain."""
    best = lower.argmax(0, keepdim=True)
    others = upper.scatter(0, best, -torch.inf).amax(0, keepdim=True)
    return others <= lower.gather(0, best)


def _windows(side: Sides, table: Tensor) -> tuple[Tensor, Tensor]:
    """Both ends of the entries of windows ``(K, windows)``; minus infinity where there is none."""
    nothing = torch.full((1,), -torch.inf, dtype=side.lower.dtype)
    low, high = (torch.cat([s.flatten(), nothing])[table] for s in (side.lower, side.upper))
    return low, high


def _table_of(node: Node) -> Tensor:
    a = node.attributes
    axes = zip(node.shape[1:], a["kernel"], a["stride"], a["padding"], a["dilation"], strict=True)
    return _table(tuple(a["inputs"][0]), tuple(axes))


@lru_cache(maxsize=64)
def _table(shape: Shape, axes: tuple[Shape, ...]) -> Tensor:
    """Which flat entry of the input each place of each window sees ``(K, windows)``.

    Places outside of the image see a number one beyond the last.

    Args:
        shape: of the input, channels first.
        axes: windows, kernel, stride, padding and dilation along each axis.

    >>> _table((1, 3), ((2, 2, 2, 0, 1),)).tolist()
    [[0, 2], [1, 3]]
    """
    count = prod(shape)
    around: list[int] = []
    for size, (windows, k, s, p, d) in zip(reversed(shape[1:]), reversed(axes), strict=True):
        last = (windows - 1) * s + (k - 1) * d + 1
        around += [p, max(last - size - p, 0)]
    entries = pad(
        torch.arange(count, dtype=torch.float64).reshape(shape), around, value=count
    ).long()
    found = []
    for places in product(*(range(k) for _, k, *_ in axes)):
        part = entries
        for axis, (at, (windows, _, s, _, d)) in enumerate(zip(places, axes, strict=True), 1):
            part = part.index_select(axis, at * d + s * torch.arange(windows))
        found.append(part.flatten())
    return torch.stack(found)
