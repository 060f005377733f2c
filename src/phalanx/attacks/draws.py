"""Random numbers of every point under attack, from a key of its own and a counter.

A point's numbers follow from its key and their position alone: neither the company it is in nor the
order of the work changes them. All rows are drawn in one pass of Philox4x32-10 (Salmon et al., SC
2011), whose key is a tensor here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from phalanx.noise.philox import MASK, philox_rounds


class Draws:
    """A stream of numbers for every row.

    Args:
        keys: one 128-bit integer a row, from `phalanx.runtime.keys.noise_key`.
        device: where the numbers are wanted.
    """

    def __init__(self, keys: Sequence[int], device: torch.device | str = "cpu") -> None:
        words = [[(key >> (32 * i)) & MASK for i in range(4)] for key in keys]
        self._keys = torch.tensor(words, dtype=torch.int64, device=device).reshape(-1, 4)

    def uniforms(self, rows: Tensor, first: int, count: int) -> Tensor:
        """``count`` numbers of some rows, from ``first`` on, in (0, 1): float32 ``(n, count)``.

        >>> draws = Draws([1, 2])
        >>> both = draws.uniforms(torch.tensor([0, 1]), 0, 7)
        >>> bool((draws.uniforms(torch.tensor([1]), 5, 2) == both[1:, 5:]).all())
        True
        """
        start, stop = first // 4, -(-(first + count) // 4)
        keys = self._keys[rows]
        block = torch.arange(start, stop, device=keys.device).expand(len(keys), -1)
        key = keys[:, :, None].expand(-1, -1, block.shape[1])
        counter = [block & MASK, block >> 32, key[:, 2], key[:, 3]]
        words = torch.stack(philox_rounds(counter, (key[:, 0], key[:, 1])), 2).flatten(1)
        wanted = words[:, first - 4 * start :][:, :count]
        # 24 bits and a half: every value is exact in float32, and none is 0 or 1.
        return ((wanted >> 8).float() + 0.5) * 2.0**-24

    def normals(self, rows: Tensor, first: int, count: int) -> Tensor:
        """As many standard normals, made of uniforms ``2 first`` and onwards (Box and Muller)."""
        pairs = self.uniforms(rows, 2 * first, 2 * count).unflatten(1, (count, 2))
        radius = pairs[..., 0].log().mul(-2).sqrt()
        return radius * (2 * math.pi * pairs[..., 1]).cos()
