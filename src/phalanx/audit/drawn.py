"""The module that draws: a member answers each query, as a random ensemble's own code does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from phalanx.attacks.target import Expected, Seen, Target

SCALE = 2.0**32


class DrawnMember(Target):
    """One member for every row and query, by the row's key; an answer is one fresh draw.

    What published evaluations attack and score. Every member sees every row, so that who is drawn
    changes nothing for the others; gradients are those of the member that was drawn.
    """

    exact: ClassVar[bool] = False
    fresh: ClassVar[bool] = True
    judged: int | None = 1

    def __init__(self, whole: Expected) -> None:
        self.whole = whole
        self.inputs, self.classes, self.device = whole.inputs, whole.classes, whole.device
        self.rows, self.name = whole.rows, "the module that draws"
        self.weights = torch.ones(1, device=self.device)
        self._ends = whole.shares.cumsum(0).cpu()

    def see(self, x: Tensor, keys: Sequence[int]) -> Seen:
        """The logits of the member that each row's key draws."""
        logits = self.whole.see(x, keys).scores
        member = self.drawn(keys).to(logits.device)
        scores = logits.gather(0, member.view(1, -1, 1).expand(1, *logits.shape[1:]))
        return Seen(scores, scores)

    def drawn(self, keys: Sequence[int]) -> Tensor:
        """Which member each key draws: int64 ``(B,)``."""
        shares = torch.tensor([(key % 2**32) / SCALE for key in keys], dtype=torch.float64)
        return torch.searchsorted(self._ends, shares, right=True).clamp_max(len(self._ends) - 1)
