"""Isotropic Gaussian noise in input space, added in float32 or on a lattice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.noise.distributions import check_sigma, distributions
from phalanx.noise.lattice import Lattice, LatticeGaussian
from phalanx.noise.stream import NormalStream


@distributions.register("gaussian")
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

    def on(self, lattice: Lattice) -> LatticeGaussian:
        """The same noise rounded to a lattice and added there without rounding."""
        return LatticeGaussian(self.sigma, lattice)
