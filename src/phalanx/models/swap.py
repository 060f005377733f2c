"""Layers of a kind exchanged for others that compute the same, in a copy of a network."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

from torch import nn


def swap_layers(
    network: nn.Module, exchanged: Callable[[nn.Module], nn.Module | None]
) -> tuple[nn.Module, int]:
    """``network`` with layers exchanged, and how many there were.

    The original is not touched, and comes back if there are none. A layer that is used in two
    places stays one.

    Args:
        network: any module.
        exchanged: a layer to what takes its place; None leaves it.
    """
    if all(exchanged(part) is None for part in network.modules()):
        return network, 0
    copy = deepcopy(network)
    made = {part: new for part in copy.modules() if (new := exchanged(part)) is not None}
    for part in list(copy.modules()):
        for name, layer in list(part.named_children()):
            if layer in made:
                setattr(part, name, made[layer])
    return made.get(copy, copy), len(made)
