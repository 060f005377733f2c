"""The small network of interval bound propagation."""

from __future__ import annotations

from torch import nn

from phalanx.models.build import image_shape, networks


@networks.register("dm-small")
def dm_small(classes: int = 10, shape: tuple[int, ...] = (1, 28, 28)) -> nn.Module:
    """Two convolutions without padding and a hidden layer, ReLU; 329,606 parameters on 1x28x28.

    The "small" of Gowal et al. 2018 (arXiv 1810.12715, table 1).
    """
    channels, height, width = image_shape("dm-small", shape, smallest=10)
    height, width = ((size - 4) // 2 + 1 - 3 for size in (height, width))
    return nn.Sequential(
        nn.Conv2d(channels, 16, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * height * width, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )
