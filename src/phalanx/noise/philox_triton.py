"""The words of `phalanx.noise.philox` from one GPU kernel instead of some two hundred.

Triton comes with torch's CUDA builds. This module is imported where it is present alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

COUNTERS = 512
"""Of one program."""
WIDE = 1 << 62
"""Added to every number handed over, and taken off again: Triton compiles a kernel anew for
numbers that fit 32 bits and for those that do not, and so none fits."""


def philox4x32(key: int, first: int, blocks: int, device: torch.device) -> Tensor:
    """As `phalanx.noise.philox.philox4x32`: int32 ``(4 blocks,)`` on a CUDA device."""
    out = torch.empty(4 * blocks, dtype=torch.int32, device=device)
    halves = [(key >> shift) & 0xFFFFFFFF for shift in (64, 96, 0, 32)]
    programs = (triton.cdiv(blocks, COUNTERS),)
    with torch.cuda.device(device):
        _words[programs](out, blocks, *(WIDE + n for n in (first, *halves)), COUNTERS=COUNTERS)
    return out


@triton.jit(do_not_specialize=["blocks", "first", "c2", "c3", "k0", "k1"])
def _words(out, blocks, first, c2, c3, k0, k1, COUNTERS: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803, PLR0917
    place = tl.program_id(0).to(tl.int64) * COUNTERS + tl.arange(0, COUNTERS)
    counter = (first & ((1 << 62) - 1)) + place
    none = tl.zeros([COUNTERS], tl.int64)
    seed = ((k1 & 0xFFFFFFFF) << 32) | (k0 & 0xFFFFFFFF)
    w0, w1, w2, w3 = tl.philox(
        seed,
        (counter & 0xFFFFFFFF).to(tl.uint32),
        ((counter >> 32) & 0xFFFFFFFF).to(tl.uint32),
        ((c2 & 0xFFFFFFFF) + none).to(tl.uint32),
        ((c3 & 0xFFFFFFFF) + none).to(tl.uint32),
    )
    words = tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))
    places = tl.program_id(0).to(tl.int64) * 4 * COUNTERS + tl.arange(0, 4 * COUNTERS)
    tl.store(out + places, words.to(tl.int32, bitcast=True), mask=places < 4 * blocks)
