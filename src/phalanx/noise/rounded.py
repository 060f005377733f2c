"""The rounded Gaussian as a table of 64-bit integers, and a sampler that reads it.

A lattice value is ``k`` where ``sigma Z`` rounds to ``k`` steps. Its distribution function, times
2**64, is kept as integers that are exact to half a unit; 64 random bits and a search in
it give a value. The first 16 of the bits decide nearly always, so they go through a table of
65,536 entries; words whose cell holds values of several lattice points are refined by 48 more bits.

Sources: Cramer's inequality for Hermite functions (Abramowitz & Stegun 22.14.17); Salmon et al.
(SC 2011) for the words. Why it is needed: Jin, Ohrimenko & Rubinstein (arXiv 2205.10159) and
Voracek & Hein (arXiv 2207.07209) break certificates that rest on floating-point noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from phalanx.errors import ParameterError
from phalanx.noise.stream import NormalStream

BITS = 160
"""Fractional bits of the computation; its errors stay below 2**-100 (see `upper_tails`)."""
ONE = 1 << BITS
PI = 3141592653589793238462643383279502884197169399375105820974944592
"""Pi times 10**63, cut."""
TRUNCATION = 130
"""Series are cut where what is left out is below 2 to minus this."""
WORD, FINE = 16, 48
REACH = 9.5
"""Standard deviations; beyond, a tail is below 2**-65 and rounds to nothing."""
LARGEST_RATIO = 1 << 16
"""Most steps in a sigma: a table of 1.2 million numbers."""
UNDECIDED = -(1 << 31)
"""Entry of a cell that holds values of several lattice points; no value reaches it."""


def total_variation(ratio: float) -> float:
    """A bound on the distance of one sampled coordinate from the rounded Gaussian, from above.

    Half the sum of ``|P(k) - Q(k)|`` is at most the sum of the errors of the distribution function:
    2 K numbers, each wrong by 2**-65 and what was computed wrongly (2**-100), and two tails below
    2**-65; K is at most ``REACH * ratio`` and 1. This is twice that. The other half is more than
    what a member drawn by ``word % members`` adds.

    Args:
        ratio: sigma in steps of the lattice.

    >>> total_variation(127.5) < 1.4e-16
    True
    """
    return (2 * math.ceil(REACH * ratio) + 2) * 2.0**-64


def upper_tails(sigma: Fraction, step: Fraction) -> list[int]:
    """``2**64 P(sigma Z > (k + 1/2) step)`` for k = 0, 1, ..., to the nearest integer, above 0.

    Steps of a Taylor series: with ``a(n) = phi^(n)(x) d^n / (n! phi(x))`` one has
    ``a(n+1) = -(x d a(n) + d^2 a(n-1)) / (n + 1)``, ``phi(x + d) = phi(x) sum a(n)`` and the
    integral of phi over the step ``d phi(x) sum a(n) / (n + 1)``. As ``|phi^(n)|`` is at most
    ``0.44 sqrt(n!)``, what is cut off is below 2**-`TRUNCATION` a step; each step rounds a few
    dozen times at 2**-`BITS`. A million steps stay below 2**-100.
    """
    wide = (step.numerator * sigma.denominator << BITS) // (step.denominator * sigma.numerator)
    x, d = 0, wide // 2  # the first step is half a step, to 1/2
    density = math.isqrt((10**63 << 2 * BITS) // (2 * PI))  # 1 / sqrt(2 pi)
    tail = ONE >> 1
    found: list[int] = []
    while True:
        ratio, area = _taylor(x, d)
        tail -= density * area >> BITS
        density = density * ratio >> BITS
        rounded = (tail + (1 << BITS - 65)) >> (BITS - 64)
        if rounded <= 0:
            return found
        found.append(rounded)
        x, d = x + d, wide


def _taylor(x: int, d: int) -> tuple[int, int]:
    """``phi(x + d) / phi(x)`` and the integral of phi over the step, in units of ``phi(x)``."""
    slope, square = x * d >> BITS, d * d >> BITS
    before, term, ratio, area = 0, ONE, ONE, ONE
    for n in range(1, _terms(d.bit_length()) + 1):
        before, term = term, -((slope * term + square * before) >> BITS) // n
        ratio += term
        area += term // (n + 1)
    return ratio, area * d >> BITS


@lru_cache(maxsize=64)
def _terms(bits: int) -> int:
    """Terms after which ``d**(n+1) / sqrt((n+1)!)`` is below 2**-`TRUNCATION`, d below 2**bits."""
    logarithm = bits - BITS
    return next(
        n
        for n in range(1, 400)
        if (n + 1) * logarithm - math.lgamma(n + 2) / math.log(4) < -TRUNCATION
    )


@dataclass(frozen=True, eq=False)
class RoundedGaussian:
    """A sampler of ``round(sigma Z / step)``.

    Attributes:
        first: by the first 16 bits of a word: its value, or `UNDECIDED`; int32 ``(65536,)``.
        ends: where each value ends in the order of 64-bit words, less 2**63; int64, increasing.
        largest: the largest value; the smallest is minus that.
    """

    first: Tensor
    ends: Tensor
    largest: int

    def draw(self, stream: NormalStream, rows: int) -> Tensor:
        """The next rows of a stream: int32 ``(rows, stream.numel)``, whatever the split in rows.

        Rows have words of their own; cells that are undecided take theirs from a second
        sequence, in the order of rows and coordinates.
        """
        first, ends = self._on(stream.device)
        width = -(-stream.numel // 4)
        words = stream.words(2 * width * rows).view(torch.int16).view(rows, 4 * width)
        # From two's complement to 0 .. 65535; the sign is put back where all 64 bits are compared.
        words = words[:, : stream.numel].reshape(-1).to(torch.int32).bitwise_and_(0xFFFF)
        values = first.index_select(0, words)
        undecided = _places(values == UNDECIDED)
        if len(undecided):
            fine = stream.further_words(2 * len(undecided)).view(torch.int64)
            fine = (fine >> (64 - FINE)) & ((1 << FINE) - 1)
            whole = ((words[undecided].to(torch.int64) - (1 << WORD - 1)) << FINE) | fine
            places = torch.searchsorted(ends, whole, right=True)
            values[undecided] = (places - self.largest).to(torch.int32)
        return values.view(rows, stream.numel)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The two tables on a device."""
        if device.type == "cpu":
            return self.first, self.ends
        return _moved(self, device)


def _places(mask: Tensor) -> Tensor:
    """Where a mask is true: int64, in order."""
    if mask.device.type == "cpu":  # numpy's search takes a tenth of the time of torch's
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().view(-1)


@lru_cache(maxsize=8)
def _moved(table: RoundedGaussian, device: torch.device) -> tuple[Tensor, Tensor]:
    return table.first.to(device), table.ends.to(device)


@lru_cache(maxsize=16)
def rounded_gaussian(sigma: float, step: Fraction) -> RoundedGaussian:
    """The sampler of a level on a lattice; built once, in milliseconds.

    Raises:
        ParameterError: less than a step in a sigma, or so many that the table would be huge.
    """
    ratio = Fraction(sigma) / step
    if not 1 <= ratio <= LARGEST_RATIO:
        raise ParameterError(
            f"sigma {sigma:g} is {float(ratio):.3g} steps of the lattice ({float(step):.3g})",
            why=f"a sampler is made for 1 to {LARGEST_RATIO:,} steps in a sigma",
            repair="another --set steps=, or --arithmetic real",
        )
    tails = upper_tails(Fraction(sigma), step)
    ends = np.array([*reversed(tails), *((1 << 64) - tail for tail in tails)], dtype=np.uint64)
    starts = np.arange(1 << WORD, dtype=np.uint64) << np.uint64(FINE)
    lowest = np.searchsorted(ends, starts, side="right")
    highest = np.searchsorted(ends, starts + np.uint64((1 << FINE) - 1), side="right")
    largest = len(tails)
    first = np.where(lowest == highest, lowest - largest, UNDECIDED).astype(np.int32)
    signed = (ends ^ np.uint64(1 << 63)).view(np.int64)
    return RoundedGaussian(torch.from_numpy(first), torch.from_numpy(signed), largest)


def probabilities(table: RoundedGaussian) -> Iterator[tuple[int, Fraction]]:
    """Every value with the exact probability at which it is drawn."""
    ends = [int(end) + (1 << 63) for end in table.ends.tolist()]
    starts = [0, *ends]
    for place, (start, end) in enumerate(zip(starts, [*ends, 1 << 64], strict=True)):
        yield place - table.largest, Fraction(end - start, 1 << 64)
