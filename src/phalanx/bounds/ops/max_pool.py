"""The largest value of each window."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from phalanx.bounds.ops import Box, Cut, Joint, monotone, rows, total
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS

LEAST_WEIGHT = 1e-3
"""Means of entries whose weights are all smaller are not taken."""


class MaxPool(Joint):
    """Below: a mean of entries. Above: ``sum_i s_i x_i + c``, with any slopes in [0, 1].

    The largest entry is some k, of which ``s_k x_k`` is counted, and the others are at least at
    their lower ends: ``c = max_k ((1 - s_k) u_k + s_k l_k) - sum_i s_i l_i``.

    The usual mean is the entry whose lower end is largest, m. The usual slopes are those of the
    chords of what exceeds it, as ``max_i x_i <= m + sum_i relu(x_i - m)``, or zeros, whichever is
    less at the centre. A window that one entry wins for certain is that entry. The parameters are
    the mean's weights, up to a factor, and the slopes.
    """

    parameters = 2
    cut = Cut.PAIRS
    followed = True

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It never falls."""
        return monotone(lambda x: OPERATORS["max-pool"](node, x), boxes[0])

    def start(self, node: Node, boxes: Sequence[Box], *, parallel: bool = False) -> Tensor:
        """The usual ones: a weight for each place of a window, then a slope for each."""
        weight, slope, _ = _usual(*_ends(node, boxes[0]))
        return torch.cat([weight, slope], 1).movedim(1, 0).unsqueeze(1)

    def loose(self, node: Node, boxes: Sequence[Box]) -> list[Tensor]:
        """Everywhere but at points."""
        return [boxes[0].lower < boxes[0].upper]

    def backward(
        self, node: Node, boxes: Sequence[Box], rows: Tensor, place: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Window by window, put back where they came from."""
        lower, upper = _ends(node, boxes[0])
        weight, slope, sure = _usual(lower, upper)
        if place is not None:
            weights, slopes = place.unflatten(0, (2, -1)).movedim(1, 3)
            movable = ~sure & torch.isfinite(lower) & torch.isfinite(upper)
            weight = _mean(torch.where(movable, weights, 0.0), weight)
            slope = torch.where(movable, slopes, slope)
        offset = torch.where(sure, 0.0, _offset(slope, lower, upper))
        positive, negative = rows.clamp_min(0), rows.clamp_max(0)
        found = positive.unsqueeze(2) * weight + negative.unsqueeze(2) * slope
        return [_back(node, found)], total(negative, offset.squeeze(offset.ndim - rows.ndim + 1))


def _ends(node: Node, box: Box) -> tuple[Tensor, Tensor]:
    """Both ends of the entries of windows ``(B, K, *output shape)``."""
    return windows(node, box.lower, -torch.inf), windows(node, box.upper, -torch.inf)


def _usual(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights and slopes ``(B, K, *output shape)``, and which windows ``(B, 1, ...)`` are sure."""
    best = lower.argmax(1, keepdim=True)
    most = lower.gather(1, best)
    sure = upper.scatter(1, best, -torch.inf).amax(1, keepdim=True) <= most
    winner = torch.zeros_like(lower).scatter(1, best, 1.0)
    over = (upper > most) & torch.isfinite(upper - lower)
    width = torch.where(over, upper - lower, 1.0)
    slope = torch.where(over, (upper - most) / width.clamp_min(1e-30), 0.0)
    # At the centre the chords together reach this high above m.
    reach = most + (slope * torch.where(over, (upper - lower) / 2, 0.0)).sum(1, keepdim=True)
    slope = torch.where(reach > upper.amax(1, keepdim=True), torch.zeros_like(slope), slope)
    return winner, torch.where(sure, winner, slope), sure


def _mean(weights: Tensor, usual: Tensor) -> Tensor:
    """Weights ``(S, B, K, *output shape)`` that sum to one; the usual ones where all are small."""
    size = weights.sum(2, keepdim=True)
    return torch.where(size > LEAST_WEIGHT, weights / size.clamp_min(LEAST_WEIGHT), usual)


def _offset(slope: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The least c with which the slopes are above, ``(..., 1, *output shape)``."""
    axis = slope.ndim - lower.ndim + 1
    low = torch.where(slope > 0, lower, 0.0)
    tops = torch.where(slope > 0, upper - slope * (upper - low), upper)
    return tops.amax(axis, keepdim=True) - (slope * low).sum(axis, keepdim=True)


def windows(node: Node, x: Tensor, filler: float) -> Tensor:
    """Entries of every window: ``(B, K, *output shape)``; ``filler`` where a window sees none."""
    return torch.stack(_shifts(node, _padded(node, x, filler)), 1)


def _padded(node: Node, x: Tensor, filler: float) -> Tensor:
    return pad(x, _sides(node), value=filler)


def _sides(node: Node) -> list[int]:
    """Padding, and what a last, incomplete window lacks."""
    a, sides = node.attributes, []
    for size, out, k, s, p, d in reversed(
        list(
            zip(
                a["input"][1:], node.shape[1:], a["kernel"], a["stride"], a["padding"],
                a["dilation"], strict=True,
            )
        )
    ):  # fmt: skip
        needed = (out - 1) * s + (k - 1) * d + 1
        sides += [p, max(needed - size - p, 0)]
    return sides


def _slices(node: Node) -> list[tuple[Any, ...]]:
    a = node.attributes
    axes = [
        [slice(i * d, i * d + (out - 1) * s + 1, s) for i in range(k)]
        for out, k, s, d in zip(
            node.shape[1:], a["kernel"], a["stride"], a["dilation"], strict=True
        )
    ]
    return [(..., *cut) for cut in product(*axes)]


def _shifts(node: Node, x: Tensor) -> list[Tensor]:
    return [x[cut] for cut in _slices(node)]


def _back(node: Node, found: Tensor) -> Tensor:
    """Rows of windows ``(S, B, K, *output shape)`` as rows of the input."""
    sides, sizes = _sides(node), node.attributes["input"]
    starts = sides[::2][::-1]
    wide = [n + sides[2 * i] + sides[2 * i + 1] for i, n in enumerate(reversed(sizes[1:]))][::-1]
    whole = found.new_zeros(*found.shape[:2], sizes[0], *wide)
    for i, cut in enumerate(_slices(node)):
        whole[cut] += found[:, :, i]
    inner: tuple[Any, ...] = tuple(slice(a, a + n) for a, n in zip(starts, sizes[1:], strict=True))
    return whole[(..., *inner)]


rows.register("max-pool")(MaxPool())
