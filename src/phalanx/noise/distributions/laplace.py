"""Independent Laplace noise in input space, added in float32."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.noise.distributions import check_sigma, distributions
from phalanx.noise.stream import NormalStream


@distributions.register("laplace")
@dataclass(frozen=True)
class Laplace:
    """Density ``exp(-|e| / b) / 2b`` for every value, ``b = sigma / sqrt(2)``.

    Raises:
        ParameterError: sigma, the standard deviation, is not a positive finite number.
    """

    sigma: float

    def __post_init__(self) -> None:
        check_sigma(self.sigma)

    def fill(self, out: Tensor, x: Tensor, stream: NormalStream) -> None:
        """Write ``len(out)`` noisy copies of one input ``x`` ``(*shape)`` into ``out``."""
        u = stream.uniforms(len(out)).view(len(out), *x.shape)
        moved = u.abs().log_().copysign_(u)  # |u| is never 0
        torch.add(x, moved, alpha=math.sqrt(0.5) * self.sigma, out=out)
