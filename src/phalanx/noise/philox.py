"""Philox4x32-10 in torch integer operations: the same words on every device.

Source: Salmon et al. (SC 2011), section 3.3 and the Random123 known-answer vectors.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF

Word = int | Tensor


def philox4x32(key: int, first: int, blocks: int, device: torch.device) -> Tensor:
    """Words of ``blocks`` consecutive counters starting at ``first``: int32 ``(4 blocks,)``.

    The low 64 bits of ``key`` are the Philox key, the high 64 bits the upper half of the
    counter, so that streams of different 128-bit keys never share a (key, counter) pair.
    """
    if device.type == "cuda" and _triton_is_here():
        from phalanx.noise import philox_triton

        return philox_triton.philox4x32(key, first, blocks, device)
    return in_torch(key, first, blocks, device)


def in_torch(key: int, first: int, blocks: int, device: torch.device) -> Tensor:
    """The same in torch operations, wherever torch runs."""
    low = torch.arange(first, first + blocks, dtype=torch.int64, device=device)
    upper = key >> 64
    counter = [
        low & MASK,
        low >> 32,
        torch.full_like(low, upper & MASK),
        torch.full_like(low, (upper >> 32) & MASK),
    ]
    words = torch.stack(philox_rounds(counter, (key & MASK, (key >> 32) & MASK)), dim=1)
    return _as_int32(words).reshape(-1)


@cache
def _triton_is_here() -> bool:
    return find_spec("triton") is not None


def philox_rounds(counter: list[Tensor], key: tuple[Word, Word]) -> list[Tensor]:
    """Ten rounds on four int64 tensors that hold 32-bit words; so may the key, word by word."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high1, low1 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return [c0, c1, c2, c3]


def _multiply(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a 32 x 32 bit product, without leaving int64.

    The factor is split in 16-bit halves so that no intermediate reaches 2**63.
    """
    low_part = word * (factor & 0xFFFF)
    high_part = word * (factor >> 16) + (low_part >> 16)
    low = ((high_part & 0xFFFF) << 16) | (low_part & 0xFFFF)
    return high_part >> 16, low


def _as_int32(words: Tensor) -> Tensor:
    """Words 0..2**32-1 as two's complement int32."""
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
