"""Curves and sums that round alike wherever a number, or a row, lies in its tensor.

torch computes a sigmoid, a softplus or a power of many numbers at once in the registers of the
processor, and what is left over at the end of a tensor, or of a thread's share of it, one by one,
by other code: a few of the last bits differ (seen with AVX-512), so a row would depend on whether
it is the last of its pass. Where every share is a whole number of registers, nothing is left over.

The sum of one long row is cut among threads, and those of several rows are not: one row alone would
have another sum than in company.
"""

from __future__ import annotations

from collections.abc import Callable
from math import lcm

import torch
from torch import Tensor
from torch.nn.functional import pad

WHOLE = 64
"""Numbers that fill registers of any processor, of any type, as often as torch unrolls."""
SHARE = 32768
"""Numbers of which torch gives a thread a share of its own (``at::internal::GRAIN_SIZE``)."""
ALL_SHARE = 16384
"""Numbers from which on all threads share a GELU (``GELU_MIN_ELEMENTS_FOR_MULTI_THREADING``)."""


def in_whole_vectors(curve: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``curve(x)`` of a function of one number, computed in whole registers only.

    Args:
        curve: elementwise; a tensor to one of the same shape.
        x: any shape. One that is not on a CPU is not padded.

    >>> x = torch.linspace(-9, 9, 71)
    >>> alone = in_whole_vectors(torch.sigmoid, x[-1:])
    >>> bool(alone == in_whole_vectors(torch.sigmoid, x)[-1])
    True
    """
    if x.device.type != "cpu" or not x.is_floating_point():
        return curve(x)
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return _padded(curve, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return _padded(curve, x)


def row_sums(rows: Tensor) -> Tensor:
    """Sums of ``(B, n)``: ``(B,)``, the same bits for a row alone."""
    return _in_company(lambda x: x.sum(1), rows)


def row_norms(rows: Tensor, p: float = 2) -> Tensor:
    """``p``-norms of ``(B, n)``: ``(B,)``, the same bits for a row alone.

    >>> row_norms(torch.tensor([[3.0, 4.0]]))
    tensor([5.])
    """
    return _in_company(lambda x: x.norm(p=p, dim=1), rows)


def _in_company(reduced: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    if len(rows) != 1 or rows.shape[1] < SHARE:
        return reduced(rows)
    return reduced(torch.cat([rows, rows]))[:1]


def _padded(curve: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    flat = x.reshape(-1)
    missing = _whole_shares(len(flat)) - len(flat)
    if not missing:
        return curve(flat).reshape(x.shape)
    return curve(pad(flat, (0, missing)))[: len(flat)].reshape(x.shape)


def _whole_shares(numbers: int) -> int:
    """The next length of which every thread's share is whole, whichever way it is shared."""
    threads, length = torch.get_num_threads(), numbers
    while True:
        shares = max(1, min(threads, -(-length // SHARE)))
        unit = WHOLE * (lcm(shares, threads) if length > ALL_SHARE else shares)
        whole = -(-length // unit) * unit
        if whole == length:
            return length
        length = whole
