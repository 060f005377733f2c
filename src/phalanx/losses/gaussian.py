"""Gaussian data augmentation (Cohen et al., ICML 2019, section 3.3 and appendix B)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import nn
from torch.nn.functional import cross_entropy

from phalanx.losses import Batch, LossOutput, losses


@losses.register("gaussian")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Gaussian:
    """Cross entropy on ``x + sigma * eps`` with one fresh ``eps ~ N(0, I)`` per image and step.

    With several members the mean of their losses; every member sees the same noise then, so
    the trainer hands members over one at a time.

    Args:
        sigma: standard deviation of the noise in input units, at least 0.
    """

    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    coupled: ClassVar[bool] = False

    def __call__(self, members: Sequence[nn.Module], batch: Batch) -> LossOutput:
        """Mean over members and images of ``-log softmax(f(x + sigma eps))_y``."""
        noisy = batch.x + self.sigma * batch.noise(0)
        # Softmax in float32: bfloat16 keeps 8 bits, too few for a log of small probabilities.
        logits = torch.stack([member(noisy).float() for member in members])
        targets = batch.y.expand(len(members), -1).flatten()
        return LossOutput(cross_entropy(logits.flatten(0, 1), targets), logits.detach())
