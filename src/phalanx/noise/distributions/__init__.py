"""What is added to an input; one file a distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Protocol

from torch import Tensor

from phalanx.errors import ParameterError
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


NoiseFactory = Callable[[float], Noise]
"""``factory(sigma) -> Noise``, sigma in the units of the model's input."""

distributions: Registry[NoiseFactory] = Registry(
    "noise", "phalanx.noise.distributions", noun="noise"
)


def check_sigma(sigma: object) -> None:
    """Refuse a noise level that no certificate can be computed for."""
    if not (isinstance(sigma, Real) and 0 < float(sigma) < math.inf):
        raise ParameterError(
            f"sigma is {sigma!r}",
            why="the noise level is a positive number in units of the input",
            repair="--sigma 0.5",
        )
