"""Small classifiers under attack."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from phalanx.models.model import InputSpec, Model

SHAPE = (1, 6, 6)


def network(seed: int = 0, classes: int = 4) -> Model:
    """A small tanh network on images of `SHAPE` in 0 .. 1, with classes of about equal size."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(144, classes)
        )
        x = torch.rand(64, *SHAPE)
    with torch.no_grad():
        layers[3].bias -= layers(x).mean(0)
        layers[3].weight *= 4
    return Model(layers.eval(), InputSpec((0.0, 1.0)), classes)


def points(model: Model, count: int = 20, seed: int = 3) -> tuple[Tensor, Tensor]:
    """Inputs that a model gets right, and its answers."""
    x = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return x, model(x).argmax(1)
