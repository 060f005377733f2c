"""Nearest points in balls, boxes and behind hyperplanes: exact, one row a problem.

Every problem here ends in one equation ``sum_i a_i min(t, tau_i) = c`` with ``a, tau >= 0``. Its
left side rises, is concave and has its corners at the ``tau_i``, and between them is a line:
Newton's steps from 0 rise to where it meets ``c``, and end there exactly. Where it is a difference
of two such sums, sorted corners find the piece.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.runtime.vectors import row_sums

TINY = 1e-12


def meet(slopes: Tensor, corners: Tensor, level: Tensor) -> Tensor:
    """The ``t`` with ``sum_i slopes_i min(t, corners_i) = level``; infinity where there is none.

    Args:
        slopes, corners: ``(B, n)``, none negative; a corner may be infinite where its slope is 0.
        level: ``(B,)``, none negative.

    Returns:
        ``(B,)``.

    >>> one, two = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 3.0]])
    >>> [meet(one, two, torch.tensor([c])).item() for c in (1.0, 3.0, 5.0)]
    [0.5, 2.0, inf]
    """
    full = torch.where(slopes > 0, slopes * corners, 0)
    t = torch.zeros_like(level)
    while True:
        rising = corners > t[:, None]
        rise = row_sums(torch.where(rising, slopes, 0))
        flat = row_sums(torch.where(rising, 0, full))
        # The line of this piece lies above the others: it meets the level before they do.
        met = torch.where(rise > 0, (level - flat) / rise.clamp_min(TINY), torch.inf).maximum(t)
        if not bool((met > t).any()):
            return met
        t = met


def into_l1_ball(x: Tensor, moved: Tensor, eps: float, low: float, high: float) -> Tensor:
    """The nearest point to ``moved`` (in l2) of the box and the l1 ball around ``x``.

    Croce & Hein, "Mind the box" (ICML 2021), proposition 2.1: every coordinate is shortened by one
    ``t``, then cut at the box: ``d_i = min(max(|m_i| - t, 0), room_i)`` in the direction of
    ``m_i``. With ``m = moved - x`` the length is ``sum_i min(|m_i|, T) - min(max(|m_i| - room_i,
    0), T)`` at ``t = T``, taken from that of ``t = 0``; it falls in ``t`` with corners at both
    ``|m_i|`` and ``|m_i| - room_i``.

    Args:
        x, moved: ``(B, n)``; ``x`` in the box.
        eps: radius, positive.
        low, high: the box.
    """
    move = moved.double() - x.double()
    length = move.abs()
    room = torch.where(move > 0, high - x.double(), x.double() - low).clamp_min(0)
    kept = length.minimum(room)
    over = row_sums(kept) - eps
    t = _shortening(length, (length - room).clamp_min(0), over.clamp_min(0))
    short = (length - t[:, None]).clamp_min(0).minimum(room)
    near = torch.where((over > 0)[:, None], short, kept)
    return (x.double() + near * move.sign()).to(x.dtype)


def _shortening(ends: Tensor, starts: Tensor, wanted: Tensor) -> Tensor:
    """The ``t`` at which ``sum_i min(max(t - starts_i, 0), ends_i - starts_i)`` is ``wanted``."""
    corners, order = torch.cat([starts, ends], 1).sort(dim=1)
    rises = torch.cat([torch.ones_like(starts), -torch.ones_like(ends)], 1).gather(1, order)
    slope = rises.cumsum(1)
    steps = slope[:, :-1] * corners.diff(dim=1)
    values = torch.cat([torch.zeros_like(wanted)[:, None], steps.cumsum(1)], 1)
    at = torch.searchsorted(values.contiguous(), wanted[:, None].contiguous())
    piece = (at - 1).clamp(0, corners.shape[1] - 2)
    gap = wanted[:, None] - values.gather(1, piece)
    t = corners.gather(1, piece) + gap / slope.gather(1, piece).clamp_min(1)
    return t.squeeze(1)


def onto_plane(
    norm: str, x: Tensor, normal: Tensor, offset: Tensor, box: tuple[float, float]
) -> Tensor:
    """The shortest move that takes a point of the box onto ``<normal, z> = offset`` inside the box.

    Where the box does not reach the plane, the move towards its nearest corner (Croce & Hein,
    "Minimally distorted adversarial examples", ICML 2020, section 3.1).

    Args:
        norm: ``linf``, ``l2`` or ``l1``: what is to be short.
        x, normal: ``(B, n)``.
        offset: ``(B,)``.
        box: smallest and largest value.

    Returns:
        ``(B, n)``, the move.
    """
    (low, high), needed = box, offset - row_sums(normal * x)
    normal = normal * torch.where(needed < 0, -1.0, 1.0)[:, None]
    gain, needed = normal.abs(), needed.abs()
    room = torch.where(normal > 0, high - x, x - low).clamp_min(0)
    room = torch.where(normal == 0, 0, room)
    if norm == "linf":
        move = meet(gain, room, needed)[:, None].minimum(room)
    elif norm == "l2":
        ratio = room / gain.clamp_min(TINY)
        move = (meet(gain * gain, ratio, needed)[:, None] * gain).nan_to_num(nan=0).minimum(room)
    else:
        move = _fewest(gain, room, needed)
    return move * normal.sign()


def _fewest(gain: Tensor, room: Tensor, needed: Tensor) -> Tensor:
    """Fill the coordinates of largest gain up to their room, until ``needed`` is reached."""
    order = gain.argsort(dim=1, descending=True)
    gains, rooms = gain.gather(1, order), room.gather(1, order)
    before = (gains * rooms).cumsum(1) - gains * rooms
    taken = ((needed[:, None] - before) / gains.clamp_min(TINY)).clamp_min(0).minimum(rooms)
    return torch.zeros_like(gain).scatter_(1, order, taken)
