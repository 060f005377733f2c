"""Losses of one member: which inputs it sees, and what its logits on them cost.

The two halves are apart so that a loss over several members (`phalanx.losses.drt` and its
like) can stand on any of them: it needs the very inputs the member is trained on, for the
gradients there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from phalanx.losses import Batch, Loss, LossOutput

Metrics = dict[str, Tensor]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Shown:
    """What a member is shown.

    Attributes:
        passes: one tensor ``(k * B, *shape)`` for each forward pass: all images under the
            first draw, then all under the second, and so on. The first ``B`` rows of the
            first pass are noisy images, on which the log's accuracy is counted. Without a
            graph.
        mixed: where the inputs were mixed with another label, its share ``(B,)``.
    """

    passes: tuple[Tensor, ...]
    mixed: Tensor | None = None


@dataclass(frozen=True)
class Score:
    """What a member's logits cost.

    Attributes:
        loss: scalar with a graph, mean over the batch.
        metrics: further scalars for the log.
    """

    loss: Tensor
    metrics: Metrics = field(default_factory=dict)


class MemberLoss(Loss):
    """Base of the losses that look at one member; of several it is the mean.

    A subclass answers two questions, `inputs` and `score`. The trainer hands members over one
    at a time, so that each has its own noise; where they come together, they share it.
    """

    @abstractmethod
    def inputs(self, member: nn.Module, batch: Batch) -> Shown:
        """What ``member`` is shown; its parameters, gradients and buffers stay as they were."""

    @abstractmethod
    def score(self, logits: Sequence[Tensor], shown: Shown, batch: Batch) -> Score:
        """What the logits ``(k * B, C)``, float32, of each pass of ``shown`` cost."""

    def __call__(self, members: Sequence[nn.Module], batch: Batch) -> LossOutput:
        """Mean over ``members`` of the score of each on its own inputs."""
        noisy, scores = [], []
        for member in members:
            shown = self.inputs(member, batch)
            logits = [forward(member, x) for x in shown.passes]
            noisy.append(logits[0][: len(batch.x)].detach())
            scores.append(self.score(logits, shown, batch))
        loss = torch.stack([score.loss for score in scores]).mean()
        return LossOutput(loss, torch.stack(noisy), mean_metrics(scores))

    def noises(self, batch: Batch, count: int) -> list[Tensor]:
        """The noises 0 .. ``count`` - 1 in input units, each ``(B, *shape)``.

        At sigma 0 nothing is drawn.
        """
        if self.sigma == 0:
            return [torch.zeros_like(batch.x)] * count
        return [self.sigma * batch.noise(draw) for draw in range(count)]


def under(x: Tensor, noises: Sequence[Tensor]) -> Tensor:
    """``x`` under every noise, one after another: ``(len(noises) * B, *shape)``."""
    return torch.cat([x + noise for noise in noises])


def by_draw(logits: Tensor, batch: Batch) -> Tensor:
    """Logits of one pass by draw: ``(k * B, C)`` becomes ``(k, B, C)``."""
    return logits.unflatten(0, (-1, len(batch.y)))


def repeated_labels(logits: Tensor, batch: Batch) -> Tensor:
    """The class of every row of a pass: ``(k * B,)``."""
    return batch.y.repeat(len(logits) // len(batch.y))


def forward(member: nn.Module, x: Tensor) -> Tensor:
    """Logits in float32: bfloat16 keeps 8 bits, too few for a log of small probabilities."""
    logits: Tensor = member(x)
    return logits.float()


def warmed_up(batch: Batch, epochs: float) -> float:
    """The share of a strength that warms up over ``epochs``: it rises with every new epoch.

    >>> from types import SimpleNamespace
    >>> [warmed_up(SimpleNamespace(progress=p), 10) for p in (0.0, 0.9, 1.0, 9.5, 40.0)]
    [0.1, 0.1, 0.2, 1.0, 1.0]
    """
    return min(1.0, (int(batch.progress) + 1) / epochs) if epochs > 0 else 1.0


def mean_metrics(scores: Sequence[Score]) -> Metrics:
    """Metric by metric, the mean over members."""
    return {
        name: torch.stack([score.metrics[name].detach() for score in scores]).mean()
        for name in scores[0].metrics
    }
