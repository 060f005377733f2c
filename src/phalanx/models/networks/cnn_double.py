"""The largest network that the approaches to certified robustness were compared on."""

from __future__ import annotations

from torch import nn

from phalanx.models.build import image_shape, networks

LAYERS = ((64, 3, 1), (64, 3, 1), (128, 4, 2), (128, 3, 1), (128, 3, 1))
"""Channels, kernel and stride of each convolution; they follow from the published counts."""


@networks.register("cnn-double")
def cnn_double(
    classes: int = 10, shape: tuple[int, ...] = (1, 28, 28), hidden: int = 512
) -> nn.Module:
    """Five convolutions (the third of stride 2) and a hidden layer, ReLU.

    CNNd of Li, Xie & Li 2023 (arXiv 2009.04131): 13,314,634 parameters on 1x28x28, 17,247,946 on
    3x32x32.
    """
    channels, height, width = image_shape("cnn-double", shape, smallest=2)
    layers: list[nn.Module] = []
    for outputs, kernel, stride in LAYERS:
        layers += [nn.Conv2d(channels, outputs, kernel, stride, padding=1), nn.ReLU()]
        channels = outputs
    layers += [nn.Flatten(), nn.Linear(channels * (height // 2) * (width // 2), hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, classes))
