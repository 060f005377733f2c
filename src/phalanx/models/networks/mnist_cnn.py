"""The MNIST network of the smoothing papers."""

from __future__ import annotations

from torch import nn

from phalanx.models.build import image_shape, networks


@networks.register("mnist-cnn")
def mnist_cnn(classes: int = 10, shape: tuple[int, ...] = (1, 28, 28)) -> nn.Module:
    """Four convolutions, three linear layers, ReLU; 1,974,762 parameters on 1x28x28.

    Read by the published MNIST rows of randomized smoothing (Jeong & Shin 2020 and after).
    """
    channels, height, width = image_shape("mnist-cnn", shape, smallest=4)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, classes),
    )
