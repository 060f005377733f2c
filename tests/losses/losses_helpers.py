"""Small networks and batches for the tests of losses, and what is recorded around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from phalanx.losses import Batch, Loss

CLASSES = 3
ROWS = 7


@dataclass
class RecordedNoise:
    """Noise from a table; remembers which draws were asked for."""

    table: Tensor
    asked: list[int] = field(default_factory=list)

    def __call__(self, draw: int) -> Tensor:
        self.asked.append(draw)
        return self.table[draw].clone()


def batch(
    rows: int = ROWS, shape: tuple[int, ...] = (1, 6, 6), seed: int = 3, progress: float = 0.0
) -> Batch:
    """Images in [0, 1], classes 0 .. 2, and 20 draws of noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, *shape, generator=generator)
    y = torch.randint(0, CLASSES, (rows,), generator=generator)
    noise = RecordedNoise(torch.randn(20, *x.shape, generator=generator))
    return Batch(x, y, noise, progress)


def part(given: Batch, rows: slice) -> Batch:
    """Some rows of a batch, with their noises."""
    return Batch(given.x[rows], given.y[rows], lambda draw: given.noise(draw)[rows], given.progress)


def linear(seed: int = 0, shape: tuple[int, ...] = (1, 6, 6)) -> nn.Module:
    """One layer, so that a test can compute by hand."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(int(torch.tensor(shape).prod()), CLASSES))


def smooth(seed: int = 0, shape: tuple[int, ...] = (1, 6, 6)) -> nn.Module:
    """Two layers with tanh between: twice differentiable, for finite differences."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        size = int(torch.tensor(shape).prod())
        return nn.Sequential(nn.Flatten(), nn.Linear(size, 5), nn.Tanh(), nn.Linear(5, CLASSES))


def convolutional(seed: int = 0) -> nn.Module:
    """Convolution, batch normalisation, ReLU, dropout: the parts with a state or a mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Linear(8 * 9, CLASSES),
        )


def members_for(loss: Loss, make=convolutional) -> list[nn.Module]:
    """As many members as the trainer hands over: three that are coupled, else one."""
    return [make(seed) for seed in range(3 if loss.coupled else 1)]


def weights(members: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [p for member in members for p in member.parameters()]


def seeded(loss: Loss, members: Sequence[nn.Module], given: Batch):
    """The loss as the trainer calls it: torch's generator seeded anew."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return loss(members, given)
