"""What an attack remembers of each point: tensors that lose rows together."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from phalanx.attacks.siege import LEAST, Siege


@dataclass
class Rows:
    """Base: every field of a subclass is a tensor with one row a point.

    Attributes:
        at: numbers of the points in the siege ``(n,)``.
    """

    at: Tensor

    def kept(self, mask: Tensor) -> Self:
        """The rows where ``mask`` ``(n,)`` holds."""
        every: dict[str, Any] = {f.name: getattr(self, f.name)[mask] for f in fields(self)}
        return replace(self, **every)

    def standing(self, siege: Siege) -> Self:
        """The rows of points that are still answered rightly with some probability."""
        mask = siege.now[self.at] > LEAST
        return self if bool(mask.all()) else self.kept(mask)

    def __len__(self) -> int:
        return len(self.at)


def choose(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Row by row ``yes`` or ``no`` ``(n, ...)`` by ``mask`` ``(n,)``."""
    return torch.where(mask.view(-1, *[1] * (yes.ndim - 1)), yes, no)
