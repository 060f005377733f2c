"""The seven-layer network that certified trainings are compared on."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from phalanx.models.build import image_shape, networks

WIDTHS = (64, 64, 128, 128, 128)


@networks.register("cnn7")
def cnn7(classes: int = 10, shape: tuple[int, ...] = (3, 32, 32), hidden: int = 512) -> nn.Module:
    """Five 3x3 convolutions (the third of stride 2), a hidden layer, all with batch normalisation.

    CNN-7 of Shi et al. 2021 (arXiv 2103.16871, appendix): 17.2 million parameters on 3x32x32.
    """
    channels, height, width = image_shape("cnn7", shape, smallest=2)
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise((channels, *WIDTHS))):
        stride = 2 if index == 2 else 1
        layers += [
            nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
        ]  # fmt: skip
    size = WIDTHS[-1] * -(-height // 2) * -(-width // 2)
    layers += [nn.Flatten(), nn.Linear(size, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, classes))
