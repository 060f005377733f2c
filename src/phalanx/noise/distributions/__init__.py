"""What is added to an input; one file a distribution."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from phalanx.errors import ParameterError
from phalanx.noise.lattice import Lattice
from phalanx.noise.stream import NormalStream
from phalanx.registry import Registry


class Noise(Protocol):
    """A noise distribution at one level."""

    @property
    def sigma(self) -> float:
        """The level, in the units of the model's input."""
        ...

    def fill(self, out: Tensor, x: Tensor, stream: NormalStream) -> None:
        """Write ``len(out)`` noisy copies of one input ``x`` ``(*shape)`` into ``out``."""
        ...


class OnLattice(Noise, Protocol):
    """Noise that is added on a lattice without rounding."""

    @property
    def total_variation(self) -> float:
        """Distance of the law of one sampled coordinate from the one it stands for, at most."""
        ...


@runtime_checkable
class HasLattice(Protocol):
    """A distribution that can also be added on a lattice."""

    def on(self, lattice: Lattice) -> OnLattice:
        """The same distribution, rounded to the lattice."""
        ...


@runtime_checkable
class HasOrder(Protocol):
    """A family of distributions with an order that may depend on the dimension of the input."""

    def of_order(self, order: int) -> Noise:
        """The member of that order."""
        ...

    def order_in(self, dimension: int) -> int:
        """The order for inputs of so many values; refuses one that there is none of."""
        ...


NoiseFactory = Callable[[float], Noise]
"""``factory(sigma) -> Noise``, sigma in the units of the model's input."""

distributions: Registry[NoiseFactory] = Registry(
    "noise", "phalanx.noise.distributions", noun="noise"
)


def noise_of(name: str, sigma: float, order: int | None = None) -> Noise:
    """A registered distribution at one level, of an order where it is a family.

    Raises:
        ParameterError: no such distribution, level or order, or an order of one that has none.
    """
    noise = distributions.get(name)(sigma)
    if order is None:
        return noise
    if not isinstance(noise, HasOrder):
        raise ParameterError(
            f"an order of {order!r} and {name} noise",
            why="only a family of distributions has an order",
            repair="--noise generalised-gaussian, or no order",
        )
    return noise.of_order(order)


_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def check_sigma(sigma: object) -> None:
    """Refuse a noise level that no certificate can be computed for.

    Noise is added in float32, where a level below 1.2e-38 loses its digits or is 0, and one
    above 3.4e38 is infinite.

    Raises:
        ParameterError: not a number, or outside the normal numbers of float32.
    """
    if not isinstance(sigma, Real) or not _SMALLEST <= added_sigma(float(sigma)) <= _LARGEST:
        raise ParameterError(
            f"sigma is {sigma!r}",
            why="the noise level is a positive number in units of the input, and float32 holds it",
            repair="--sigma 0.5",
        )


def added_sigma(sigma: float) -> float:
    """The level that noise added in float32 really has.

    >>> added_sigma(0.5), added_sigma(0.12)
    (0.5, 0.11999999731779099)
    """
    with np.errstate(over="ignore"):
        return float(np.float32(sigma))
