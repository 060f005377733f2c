"""LeNet-5 with ReLU and max pooling."""

from __future__ import annotations

from torch import nn

from phalanx.models.build import image_shape, networks


@networks.register("lenet5")
def lenet5(classes: int = 10, shape: tuple[int, ...] = (1, 28, 28)) -> nn.Module:
    """LeCun et al. 1998 in today's form; 61,706 parameters on 1x28x28.

    Images below 32x32 are padded by 2 at the first convolution, as MNIST is in the paper.
    """
    channels, height, width = image_shape("lenet5", shape, smallest=12)
    padding = 2 if min(height, width) < 32 else 0
    rows, columns = (((size + 2 * padding - 4) // 2 - 4) // 2 for size in (height, width))
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * rows * columns, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )
