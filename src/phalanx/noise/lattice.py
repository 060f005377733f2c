"""A lattice in input space, and noise that is added on it in exact integers.

With inputs and noise on one lattice no sum is rounded. So votes at a lattice point u are those of
``f(round(u + sigma Z))``, and what is certified is the Gaussian smoothing of "f after rounding",
to which the theorem applies as it stands. What the network is given is a fixed function of the
integer, so nothing in its bits tells where the noise came from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

from phalanx.errors import DataError, ParameterError
from phalanx.noise.rounded import RoundedGaussian, rounded_gaussian, total_variation
from phalanx.noise.stream import NormalStream

FINEST = 1 << 24
"""Lattice points that float32 counts without a gap."""
SPREAD = 16
"""Steps that a sigma has at least: rounding adds a three-thousandth to the variance."""
SNAPPED_SPREAD = 64
"""Half-diagonals of a cell in a sigma, at least, where inputs are moved to the lattice."""
EIGHT_BIT = 255
_FLOAT_ROUNDING = 2.0**-21
"""What float32 may do to an input on its way to us, of the largest value: eight roundings."""
NEAR = 1 / 64
"""Of a step: how far `_FLOAT_ROUNDING` may reach where inputs are said to lie on the lattice."""
BLOCK = {"cpu": 1 << 18}
LARGE_BLOCK = 1 << 25
"""Values drawn at once: in the caches of a CPU, and some hundred MiB on other devices."""


@dataclass(frozen=True)
class Lattice:
    """The points ``low + k h`` in each coordinate, with ``h = (high - low) / steps``.

    Attributes:
        low, high: the range of inputs.
        steps: of the lattice between them; 255 for 8-bit images as they are.

    Raises:
        ParameterError: no such number of steps, or more than float32 can tell apart.
    """

    low: float
    high: float
    steps: int

    def __post_init__(self) -> None:
        if type(self.steps) is not int or not 1 <= self.steps <= FINEST:
            raise ParameterError(
                f"a lattice of {self.steps!r} steps between {self.low:g} and {self.high:g}",
                why=f"it is a whole number from 1 to {FINEST:,}: float32 cannot tell more apart",
                repair="a larger --sigma, or --arithmetic real",
            )

    @cached_property
    def exact_step(self) -> Fraction:
        """The distance of neighbouring points in a coordinate."""
        return (Fraction(self.high) - Fraction(self.low)) / self.steps

    @cached_property
    def _divisor(self) -> int | None:
        """Steps in 1, where they are a whole number that float32 holds."""
        whole = 1 / self.exact_step
        return int(whole) if whole.denominator == 1 and whole <= FINEST else None

    @cached_property
    def step(self) -> float:
        """The same as a float."""
        return float(self.exact_step)

    @property
    def rounding(self) -> float:
        """How far float32 may have moved a coordinate of an input."""
        return _FLOAT_ROUNDING * max(abs(self.low), abs(self.high))

    def holds(self, levels: int | None) -> bool:
        """Whether inputs of so many quantisation steps lie on it, and float32 shows it."""
        known = levels is not None and self.steps % levels == 0
        return known and self.step * NEAR >= self.rounding

    def integers(self, x: Tensor) -> Tensor:
        """The nearest point of every value: int32 of the shape of ``x``.

        Raises:
            DataError: a value that is not finite, or so far out that noise could not be added.
        """
        # On the CPU, whatever the device: some have no float64, and all shall agree.
        places = ((x.to("cpu", torch.float64) - self.low) / self.step).round_()
        if not bool(places.abs().max() <= FINEST):  # NaN is the largest of all
            raise DataError(
                "an input is NaN, infinite or far outside of its range",
                why=f"the lattice lies between {self.low:g} and {self.high:g}",
            )
        return places.to(torch.int32).to(x.device)

    def floats(self, points: Tensor, out: Tensor) -> None:
        """Write the values of lattice points to float32 ``out`` of the same shape.

        A fixed function of each integer, whatever lies beside it: one rounding an operation.
        """
        out.copy_(points)
        if self._divisor is not None:
            # By a tensor: a GPU multiplies by the inverse of a number instead of dividing by it.
            out.div_(torch.full((), self._divisor, dtype=out.dtype, device=out.device))
        else:
            out.mul_(self.step)
        if self.low:
            out.add_(self.low)

    def require(self, x: Tensor) -> None:
        """Refuse an input that was said to lie on the lattice and does not.

        Raises:
            DataError: some value is farther from the lattice than float32 rounding explains.
        """
        values, points = x.to("cpu", torch.float64), self.integers(x).to("cpu", torch.float64)
        gap = (values - (self.low + points * self.step)).abs().max()
        if not bool(gap <= self.rounding):
            raise DataError(
                f"an input lies {float(gap):.3g} off the lattice of {self.steps} steps between"
                f" {self.low:g} and {self.high:g}",
                why="its data set says how it is quantised, and this input is not",
                repair="correct the levels of its card",
            )


@dataclass(frozen=True)
class LatticeGaussian:
    """Noise N(0, sigma^2 I) rounded to a lattice; the inputs it is added to are moved there.

    Raises:
        ParameterError: sigma has less than a step of the lattice, or too many.
    """

    sigma: float
    lattice: Lattice

    def __post_init__(self) -> None:
        self._sampler()

    @property
    def total_variation(self) -> float:
        """How far the law of one sampled coordinate is from the rounded Gaussian, at most."""
        return total_variation(self.sigma / self.lattice.step)

    def fill(self, out: Tensor, x: Tensor, stream: NormalStream) -> None:
        """Write ``len(out)`` noisy copies of one input ``x`` ``(*shape)`` into ``out``."""
        points, sampler = self.lattice.integers(x).view(-1), self._sampler()
        most = BLOCK.get(stream.device.type, LARGE_BLOCK)
        for part in out.split(max(1, most // max(1, stream.numel))):
            noisy = sampler.draw(stream, len(part)).add_(points)
            self.lattice.floats(noisy.view(len(part), *x.shape), part)

    def _sampler(self) -> RoundedGaussian:
        return rounded_gaussian(self.sigma, self.lattice.exact_step)


def steps_for(
    low: float,
    high: float,
    sigma: float,
    *,
    levels: int | None,
    dimensions: int,
    snapped: bool,
) -> int:
    """The coarsest fit lattice: a dyadic fraction of the data's own step.

    Args:
        low, high: range of the inputs.
        sigma: noise level.
        levels: steps of their quantisation between low and high (255 for bytes), or None for
            inputs that have none; their range itself is halved then.
        dimensions: coordinates of an input.
        snapped: whether inputs are moved to the lattice, so that its cells should be small.

    Returns:
        ``levels * 2**j`` with the smallest j that leaves `SPREAD` steps in a sigma and, if
        ``snapped``, `SNAPPED_SPREAD` half-diagonals of a cell.

    Raises:
        ParameterError: even the finest lattice is too coarse for this sigma.

    >>> steps_for(0.0, 1.0, 0.25, levels=255, dimensions=784, snapped=False)
    255
    >>> steps_for(0.0, 1.0, 0.25, levels=None, dimensions=784, snapped=True)
    4096
    """
    wanted = sigma / SPREAD
    if snapped:
        wanted = min(wanted, 2 * sigma / (SNAPPED_SPREAD * math.sqrt(dimensions)))
    steps = levels or 1
    while (high - low) / steps > wanted:
        steps *= 2
        if steps > FINEST:
            raise ParameterError(
                f"sigma {sigma:g} is too small for a lattice between {low:g} and {high:g}",
                why=f"a step of at most {wanted:.3g} is wanted, and float32 cannot tell it apart",
                repair="a larger --sigma, or --arithmetic real",
            )
    return steps
