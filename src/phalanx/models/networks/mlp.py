"""A multilayer perceptron for inputs of any shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from phalanx.errors import ParameterError
from phalanx.models.build import networks


@networks.register("mlp")
def mlp(
    classes: int = 10, shape: tuple[int, ...] = (1, 28, 28), hidden: Sequence[int] = (256, 256)
) -> nn.Module:
    """Linear layers of ``hidden`` widths with ReLU between them, on the flattened input."""
    if any(width < 1 for width in hidden):
        raise ParameterError(f"hidden sizes {list(hidden)}", why="each must be at least 1")
    widths = [math.prod(shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
