"""Isotropic Gaussian noise in input space, added in float32."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from phalanx.errors import ParameterError
from phalanx.noise.stream import NormalStream


@dataclass(frozen=True)
class Gaussian:
    """Noise N(0, sigma^2 I), sigma in the units of the model's input.

    Raises:
        ParameterError: sigma is not a positive finite number.
    """

    sigma: float

    def __post_init__(self) -> None:
        check_sigma(self.sigma)

    def fill(self, out: Tensor, x: Tensor, stream: NormalStream) -> None:
        """Write ``len(out)`` noisy copies of one input ``x`` ``(*shape)`` into ``out``."""
        normal = stream.rows(len(out)).view(len(out), *x.shape)
        torch.add(x, normal, alpha=self.sigma, out=out)


def check_sigma(sigma: object) -> None:
    """Refuse a noise level that no certificate can be computed for."""
    if not (isinstance(sigma, Real) and 0 < float(sigma) < math.inf):
        raise ParameterError(
            f"sigma is {sigma!r}",
            why="the noise level is a positive number in units of the input",
            repair="--sigma 0.5",
        )
