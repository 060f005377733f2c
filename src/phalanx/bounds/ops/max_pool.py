"""The largest value of each window."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from phalanx.bounds.ops import Box, Joint, monotone, rows, total
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS


class MaxPool(Joint):
    """Below: the entry whose lower bound is largest, m. Above: m and the chords of what exceeds it.

    ``max_i x_i <= m + sum_i relu(x_i - m) <= m + sum_i s_i (x_i - l_i)`` with
    ``s_i = (u_i - m) / (u_i - l_i)`` where ``u_i > m``; or the largest upper bound, if that is less
    at the centre. A window that one entry wins for certain is that entry.
    """

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It never falls."""
        return monotone(lambda x: OPERATORS["max-pool"](node, x), boxes[0])

    def loose(self, node: Node, boxes: Sequence[Box]) -> list[Tensor]:
        """Everywhere but at points."""
        return [boxes[0].lower < boxes[0].upper]

    def backward(
        self, node: Node, boxes: Sequence[Box], rows: Tensor, place: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Window by window, put back where they came from."""
        lower, upper = (windows(node, side, -torch.inf) for side in boxes[0])
        best = lower.argmax(1, keepdim=True)
        most = lower.gather(1, best)
        others = upper.scatter(1, best, -torch.inf).amax(1, keepdim=True)
        sure = others <= most
        winner = torch.zeros_like(lower).scatter(1, best, 1.0)
        over = upper > most
        width = torch.where(over, upper - lower, 1.0)
        slope = torch.where(over, (upper - most) / width.clamp_min(1e-30), 0.0)
        start = torch.where(over, lower, 0.0)
        offset = most - (slope * start).sum(1, keepdim=True)
        # At the centre the chords together reach this high above m.
        reach = most + (slope * torch.where(over, (upper - lower) / 2, 0.0)).sum(1, keepdim=True)
        top = upper.amax(1, keepdim=True)
        constant = reach > top
        slope = torch.where(sure, winner, torch.where(constant, torch.zeros_like(slope), slope))
        offset = torch.where(sure, torch.zeros_like(offset), torch.where(constant, top, offset))
        positive, negative = rows.clamp_min(0), rows.clamp_max(0)
        found = positive.unsqueeze(2) * winner + negative.unsqueeze(2) * slope
        return [_back(node, found)], total(negative, offset.squeeze(1))


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
