"""Moving parameters of lines up the gradient of a bound (Adam, Kingma and Ba 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DECAY = 0.98
"""Of the step, from one iteration to the next."""
FIRST, SECOND, TINY = 0.9, 0.999, 1e-8


class Ascent:
    """Parameters in [0, 1], each with its own running means.

    Nothing of one parameter enters another's step, so that company changes nothing.

    Args:
        places: the parameters; changed in place.
        step: the first step's size.

    >>> place = torch.tensor([0.5, 0.5], requires_grad=True)
    >>> ascent = Ascent([place], 0.1)
    >>> ascent.climb((place * torch.tensor([3.0, -0.2])).sum())
    >>> [round(value, 4) for value in place.tolist()]
    [0.6, 0.4]
    """

    def __init__(self, places: Sequence[Tensor], step: float) -> None:
        self.places, self.step, self.count = list(places), step, 0
        self.means = [(torch.zeros_like(place), torch.zeros_like(place)) for place in places]

    def climb(self, objective: Tensor) -> None:
        """One step; parameters the objective does not depend on stay where they are."""
        slopes: tuple[Tensor | None, ...] = torch.autograd.grad(
            objective, self.places, allow_unused=True
        )
        self.count += 1
        size = self.step * DECAY ** (self.count - 1) / (1 - FIRST**self.count)
        scale = 1 / (1 - SECOND**self.count)
        with torch.no_grad():
            for place, slope, (mean, square) in zip(self.places, slopes, self.means, strict=True):
                if slope is None:
                    continue
                mean.mul_(FIRST).add_(slope, alpha=1 - FIRST)
                square.mul_(SECOND).addcmul_(slope, slope, value=1 - SECOND)
                place.addcdiv_(mean, square.mul(scale).sqrt_().add_(TINY), value=size)
                place.nan_to_num_(0.5).clamp_(0, 1)
