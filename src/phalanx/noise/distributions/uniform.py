"""Independent uniform noise in input space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from phalanx.noise.distributions import distributions
from phalanx.noise.distributions._independent import Independent


@distributions.register("uniform")
@dataclass(frozen=True)
class Uniform(Independent):
    """Every value moves by a uniform number in ``[-h, h]``, ``h = sqrt(3) sigma``."""

    scale: ClassVar[float] = math.sqrt(3.0)

    def shaped(self, u: Tensor) -> Tensor:
        """The number itself."""
        return u
