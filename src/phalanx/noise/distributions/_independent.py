"""What noises share whose values are independent and made of one uniform number each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from phalanx.noise.distributions import check_sigma
from phalanx.noise.stream import NormalStream


@dataclass(frozen=True)
class Independent(ABC):
    """Noise of standard deviation sigma on every value, added in float32.

    Attributes:
        scale: what `shaped` is multiplied by where sigma is 1.

    Raises:
        ParameterError: sigma is not a positive finite number.
    """

    sigma: float
    scale: ClassVar[float]

    def __post_init__(self) -> None:
        check_sigma(self.sigma)

    @abstractmethod
    def shaped(self, u: Tensor) -> Tensor:
        """The noise, up to its scale, from uniform numbers in [-1, 1] other than 0."""

    def fill(self, out: Tensor, x: Tensor, stream: NormalStream) -> None:
        """Write ``len(out)`` noisy copies of one input ``x`` ``(*shape)`` into ``out``."""
        moved = self.shaped(stream.uniforms(len(out)).view(len(out), *x.shape))
        torch.add(x, moved, alpha=self.scale * self.sigma, out=out)
