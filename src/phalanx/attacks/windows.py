"""Windows of an image and what Square puts there (Andriushchenko et al., ECCV 2020)."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

SIDES = ((10, 1), (50, 2), (200, 4), (500, 8), (1000, 16), (2000, 32), (4000, 64), (6000, 128))
"""Up to which query, of 10,000, the share of changed pixels is divided by what."""
LEAST_SHARE = {8000: 256}


def share_at(query: int, first: float) -> float:
    """The share of pixels in a window at a query, as published.

    >>> [share_at(query, 0.8) for query in (0, 11, 51)]
    [0.8, 0.4, 0.2]
    """
    for last, factor in (*SIDES, *LEAST_SHARE.items()):
        if query <= last:
            return first / factor
    return first / 512


def as_images(x: Tensor) -> Tensor:
    """``(B, *shape)`` as ``(B, C, H, W)``; what is no image is one row of one channel.

    >>> [tuple(as_images(torch.zeros(2, *shape)).shape) for shape in ((5,), (4, 6), (3, 8, 8))]
    [(2, 1, 1, 5), (2, 1, 4, 6), (2, 3, 8, 8)]
    """
    if x.ndim == 4:
        return x
    return x[:, None] if x.ndim == 3 else x.flatten(1)[:, None, None]


def sides(share: float, height: int, width: int) -> tuple[int, int]:
    """Height and width of a window with about that share of the pixels: a square where one fits.

    >>> sides(0.8, 28, 28), sides(0.2, 1, 20)
    ((25, 25), (1, 4))
    """
    side = max(round(math.sqrt(share * height * width)), 1)
    if side <= min(height, width):
        return side, side
    tall = min(side, height)
    return tall, min(width, max(round(share * height * width / tall), 1))


def corners(numbers: Tensor, room: int) -> Tensor:
    """Places ``0 .. room`` from uniform numbers, equally likely: int64."""
    return (numbers * (room + 1)).long().clamp_max(room)


def mask_of(top: Tensor, left: Tensor, size: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """A window a row, ``(n, 1, H, W)``, of booleans; its corners are ``(n,)``."""
    tall, wide = spans_of(top, left, size, shape)
    return (tall[:, :, None] & wide[:, None, :])[:, None]


def spans_of(
    top: Tensor, left: Tensor, size: tuple[int, int], shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The rows ``(n, H)`` and the columns ``(n, W)`` of a window a row: booleans.

    >>> tall, wide = spans_of(torch.tensor([1]), torch.tensor([0]), (2, 1), (4, 2))
    >>> tall.int().tolist(), wide.int().tolist()
    ([[0, 1, 1, 0]], [[1, 0]])
    """
    rows = torch.arange(shape[0], device=top.device)
    columns = torch.arange(shape[1], device=top.device)
    tall = (rows >= top[:, None]) & (rows < top[:, None] + size[0])
    wide = (columns >= left[:, None]) & (columns < left[:, None] + size[1])
    return tall, wide


def places_of(top: Tensor, left: Tensor, side: int, width: int) -> Tensor:
    """Flat places of the pixels of square windows: ``(n, side * side)``."""
    steps = torch.arange(side, device=top.device)
    rows = (top[:, None] + steps)[:, :, None]
    return (rows * width + (left[:, None] + steps)[:, None, :]).flatten(1)


@cache
def pattern(side: int, power: int) -> Tensor:
    """Two pyramids of opposite sign, one above the other, of norm 1: ``(side, side)``.

    Each is, at distance ``D`` (in king's moves) from its middle, ``sum_{j > D} j^-power``;
    published: power 2 for l2 and 4 for l1, whose norm is that of the same name.
    """
    upper = _pyramid(side // 2, side, power)
    lower = -_pyramid(side - side // 2, side, power)
    both = torch.cat([upper, lower])
    return both / (both.norm() if power == 2 else both.abs().sum())


def _pyramid(height: int, width: int, power: int) -> Tensor:
    if not height:
        return torch.zeros(0, width)
    last = max(height // 2, width // 2) + 1
    steps = torch.tensor([0.0, *(float(j) ** -power for j in range(last, 0, -1))]).cumsum(0).flip(0)
    rows = (torch.arange(height) - height // 2).abs()
    columns = (torch.arange(width) - width // 2).abs()
    values = steps[torch.maximum(rows[:, None], columns[None])]
    return values / (values.norm() if power == 2 else values.abs().sum())
