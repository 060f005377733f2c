"""Independent Laplace noise in input space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from phalanx.noise.distributions import distributions
from phalanx.noise.distributions._independent import Independent


@distributions.register("laplace")
@dataclass(frozen=True)
class Laplace(Independent):
    """Density ``exp(-|e| / b) / 2b`` for every value, ``b = sigma / sqrt(2)``."""

    scale: ClassVar[float] = math.sqrt(0.5)

    def shaped(self, u: Tensor) -> Tensor:
        """An exponential number, ``-log |u|``, with the sign of ``u``."""
        return u.abs().log_().copysign_(u)
