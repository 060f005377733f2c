"""The small network of certified training by duality."""

from __future__ import annotations

from torch import nn

from phalanx.models.build import image_shape, networks


@networks.register("cnn-small")
def cnn_small(
    classes: int = 10, shape: tuple[int, ...] = (1, 28, 28), batchnorm: bool = False
) -> nn.Module:
    """Two strided convolutions and a hidden layer, ReLU; 166,406 parameters on 1x28x28.

    The MNIST network of Wong & Kolter 2018 (arXiv 1711.00851); ``batchnorm`` puts a batch
    normalisation behind every layer but the last, as Shi et al. 2021 train them.
    """
    channels, height, width = image_shape("cnn-small", shape, smallest=4)
    height, width = height // 2 // 2, width // 2 // 2

    def active(layer: nn.Module, norm: nn.Module) -> list[nn.Module]:
        return [layer, norm, nn.ReLU()] if batchnorm else [layer, nn.ReLU()]

    return nn.Sequential(
        *active(nn.Conv2d(channels, 16, 4, stride=2, padding=1), nn.BatchNorm2d(16)),
        *active(nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.BatchNorm2d(32)),
        nn.Flatten(),
        *active(nn.Linear(32 * height * width, 100), nn.BatchNorm1d(100)),
        nn.Linear(100, classes),
    )
