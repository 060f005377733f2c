"""The MNIST network of the smoothing papers, which is the large one of training by duality."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from phalanx.errors import ParameterError
from phalanx.models.build import image_shape, networks


@networks.register("mnist-cnn")
def mnist_cnn(
    classes: int = 10,
    shape: tuple[int, ...] = (1, 28, 28),
    width: int = 32,
    hidden: Sequence[int] = (512, 512),
) -> nn.Module:
    """Four convolutions of ``width`` and twice ``width`` channels, then linear layers, ReLU.

    Read by the published MNIST rows of randomized smoothing (Jeong & Shin 2020 and after), and
    "large" in Wong et al. 2018 (arXiv 1805.12514): 1,974,762 parameters on 1x28x28. With
    ``width=16`` and ``hidden=[512]`` it is CNNb of Li, Xie & Li 2023 (arXiv 2009.04131): 833,786.
    """
    channels, height, size = image_shape("mnist-cnn", shape, smallest=4)
    if width < 1 or any(one < 1 for one in hidden):
        raise ParameterError(f"width {width}, hidden sizes {list(hidden)}", why="each is 1 or more")
    layers: list[nn.Module] = []
    for inputs, outputs in ((channels, width), (width, 2 * width)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(outputs, outputs, 4, stride=2, padding=1), nn.ReLU()]
    widths = [2 * width * (height // 4) * (size // 4), *hidden]
    layers.append(nn.Flatten())
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
