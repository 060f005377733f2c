"""Standard normal noise from a keyed, counter-based generator.

`NormalStream` hands out the rows of one chunk in order. Its values depend on the key and the
row number alone: reading three rows and then two gives the same five rows as reading five.
Two generators of random bits are offered, both keyed by all 128 bits:

* ``philox4x64``: numpy's Philox (key 128 bits), the fastest on a CPU;
* ``philox4x32``: Philox4x32-10 written in torch operations, with 64 key bits and 64 counter
  bits taken from the key; it runs wherever torch does and is what a GPU uses.

Bits become normals by the Box-Muller transform in float32 (largest possible value
``sqrt(2 ln 2**32)`` = 6.66). Which generator a run uses is recorded and honoured on resume.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from phalanx.errors import ParameterError
from phalanx.noise.philox import philox4x32
from phalanx.runtime.keys import noise_key

BitSource = Callable[[int], Tensor]
"""``words`` -> the next ``words`` 32-bit words, int32, as one stream."""


def _numpy_bits(key: int, device: torch.device) -> BitSource:
    generator = np.random.Philox(key=key)

    def words(count: int) -> Tensor:
        raw = generator.random_raw(count // 2).view(np.int32)
        return torch.from_numpy(raw).to(device, non_blocking=True)

    return words


def _torch_bits(key: int, device: torch.device) -> BitSource:
    position = 0

    def words(count: int) -> Tensor:
        nonlocal position
        first, last = position // 4, -(-(position + count) // 4)
        block = philox4x32(key, first, last - first, device)
        start = position - 4 * first
        position += count
        return block[start : start + count]

    return words


GENERATORS: dict[str, Callable[[int, torch.device], BitSource]] = {
    "philox4x64": _numpy_bits,
    "philox4x32": _torch_bits,
}


def default_generator(device: torch.device | str) -> str:
    """The generator that is fastest on a device."""
    return "philox4x64" if torch.device(device).type == "cpu" else "philox4x32"


def check_generator(name: str) -> None:
    """Refuse the name of a generator that is not in `GENERATORS`."""
    if name not in GENERATORS:
        raise ParameterError(
            f"there is no noise generator called {name!r}",
            repair=f"choose one of {', '.join(sorted(GENERATORS))}",
        )


class NormalStream:
    """Rows of independent standard normals (or of uniform numbers), float32, in a fixed order, or
    the words behind them.

    Args:
        key: 128-bit integer from `phalanx.runtime.keys.noise_key`.
        numel: values in a row (the size of one input).
        device: where the rows are wanted.
        generator: a key of `GENERATORS`; default: the fastest on the device.

    Attributes:
        numel, device: as given.
    """

    def __init__(
        self, key: int, numel: int, device: torch.device | str = "cpu", generator: str = ""
    ) -> None:
        device = torch.device(device)
        generator = generator or default_generator(device)
        check_generator(generator)
        self.numel, self._half = numel, -(-numel // 2)
        self.device, self._make, self._key = device, GENERATORS[generator], key
        self._words = self._make(key, device)
        self._further: BitSource | None = None

    def words(self, count: int) -> Tensor:
        """The next ``count`` random words of 32 bits, an even number of them: int32 ``(count,)``.

        `rows` and `words` read one sequence; a distribution uses one or the other.
        """
        return self._words(count)

    def further_words(self, count: int) -> Tensor:
        """The same from a second sequence, for whoever needs a number of words that varies."""
        if self._further is None:
            self._further = self._make(noise_key("further words", self._key), self.device)
        return self._further(count)

    def rows(self, count: int) -> Tensor:
        """The next ``count`` rows: float32 ``(count, numel)``."""
        words = self._words(2 * self._half * count).view(count, 2, self._half)
        normal = _box_muller(words[:, 0], words[:, 1])
        return normal[:, : self.numel]

    def uniforms(self, count: int) -> Tensor:
        """Instead of normals, rows of uniform numbers in [-1, 1] other than 0."""
        words = self._words(2 * self._half * count).view(count, 2 * self._half)
        return words[:, : self.numel].to(torch.float32).add_(0.5).mul_(2.0**-31)


def _box_muller(radius_bits: Tensor, angle_bits: Tensor) -> Tensor:
    """Normals ``(count, 2 half)`` from two int32 tensors ``(count, half)``."""
    count, half = radius_bits.shape
    # |int32| keeps 31 bits down to the smallest value, where the tail of the normal lives.
    radius = radius_bits.to(torch.float32).abs_().add_(0.5).mul_(2.0**-31)
    radius = radius.log_().mul_(-2.0).clamp_(min=0.0).sqrt_()
    angle = angle_bits.to(torch.float32).mul_(math.pi * 2.0**-31)
    normal = radius.new_empty(count, 2, half)
    torch.mul(torch.cos(angle), radius, out=normal[:, 0])
    torch.mul(angle.sin_(), radius, out=normal[:, 1])
    return normal.view(count, 2 * half)
