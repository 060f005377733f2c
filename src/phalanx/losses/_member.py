"""Losses of one member: which inputs it sees, and what its logits on them cost.

The two halves are apart so that a loss over several members (`phalanx.losses.drt` and its
like) can stand on any of them: it needs the very inputs the member is trained on, for the
gradients there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from phalanx.losses import Batch, Loss, LossOutput

Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class Score:
    """What a member's logits cost.

    Attributes:
        loss: scalar with a graph, mean over the batch.
        metrics: further scalars for the log, detached.
    """

    loss: Tensor
    metrics: Metrics = field(default_factory=dict)


class MemberLoss(Loss):
    """Base of the losses that look at one member; of several it is the mean.

    A subclass answers two questions, `inputs` and `score`. The trainer hands members over one
    at a time, so that each has its own noise; where they come together, they share it.
    """

    @abstractmethod
    def inputs(self, member: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
        """What ``member`` is shown: one tensor for each forward pass.

        Each is ``(k * B, *shape)``: all images under the first draw, then all under the
        second, and so on. The first ``B`` rows of the first one are noisy images, on which
        the log's accuracy is counted. No gradient flows back through them; the member's
        parameters, gradients and buffers are left as they were.
        """

    @abstractmethod
    def score(self, logits: Sequence[Tensor], batch: Batch) -> Score:
        """What the logits ``(k * B, C)``, float32, of each of `inputs` cost."""

    def __call__(self, members: Sequence[nn.Module], batch: Batch) -> LossOutput:
        """Mean over ``members`` of the score of each on its own inputs."""
        noisy, scores = [], []
        for member in members:
            logits = [forward(member, x) for x in self.inputs(member, batch)]
            noisy.append(logits[0][: len(batch.x)].detach())
            scores.append(self.score(logits, batch))
        loss = torch.stack([score.loss for score in scores]).mean()
        return LossOutput(loss, torch.stack(noisy), mean_metrics(scores))

    def draws(self, x: Tensor, batch: Batch, count: int) -> Tensor:
        """``x`` under noises 0 .. ``count`` - 1, a draw after another: ``(count * B, *shape)``."""
        return torch.cat([x + self.sigma * batch.noise(draw) for draw in range(count)])


def forward(member: nn.Module, x: Tensor) -> Tensor:
    """Logits in float32: bfloat16 keeps 8 bits, too few for a log of small probabilities."""
    logits: Tensor = member(x)
    return logits.float()


def mean_metrics(scores: Sequence[Score]) -> Metrics:
    """Metric by metric, the mean over members."""
    return {
        name: torch.stack([score.metrics[name].detach() for score in scores]).mean()
        for name in scores[0].metrics
    }
