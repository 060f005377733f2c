"""Independent uniform noise in input space, added in float32."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.noise.distributions import check_sigma, distributions
from phalanx.noise.stream import NormalStream


@distributions.register("uniform")
@dataclass(frozen=True)
class Uniform:
    """Every value moves by a uniform number in ``[-h, h]``, ``h = sqrt(3) sigma``.

    Raises:
        ParameterError: sigma, the standard deviation, is not a positive finite number.
    """

    sigma: float

    def __post_init__(self) -> None:
        check_sigma(self.sigma)

    def fill(self, out: Tensor, x: Tensor, stream: NormalStream) -> None:
        """Write ``len(out)`` noisy copies of one input ``x`` ``(*shape)`` into ``out``."""
        moved = stream.uniforms(len(out)).view(len(out), *x.shape)
        torch.add(x, moved, alpha=math.sqrt(3.0) * self.sigma, out=out)
