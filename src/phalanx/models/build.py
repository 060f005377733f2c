"""Networks by name: one file of `phalanx.models.networks` is one name.

A factory is ``factory(classes, shape, **options) -> nn.Module`` and maps ``(B, *shape)`` to
logits ``(B, classes)``. It only lays out modules; `build` draws the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from phalanx.errors import ModelError, ParameterError, PhalanxError
from phalanx.models.hypernetwork import OPTION, Generated, sizes_in
from phalanx.models.initialise import OPTION as INITIALISATION
from phalanx.models.initialise import initialise, scheme_in
from phalanx.registry import Registry

NetworkFactory = Callable[..., nn.Module]

networks: Registry[NetworkFactory] = Registry("networks", "phalanx.models.networks", noun="network")


def build(
    name: str, classes: int, shape: Sequence[int], *, key: int = 0, **options: Any
) -> nn.Module:
    """A freshly initialised network, in training mode.

    Args:
        name: a registered network, for example ``"mnist-cnn"``.
        classes: number of logits, at least 2.
        shape: one input without the batch axis, for example ``(1, 28, 28)``.
        key: every weight follows from this number, 0 <= key < 2**128; torch's global
            generator is neither read nor advanced.
        options: the network's own options, for example ``hidden=[64, 64]``, and two that every
            network has: ``hypernetwork`` (`phalanx.models.hypernetwork`) and ``initialisation``
            (`phalanx.models.initialise`).

    Raises:
        ParameterError: no such network, or an option it does not take.
        ModelError: it cannot be built for this shape or these options.

    >>> sum(p.numel() for p in build("mnist-cnn", 10, (1, 28, 28)).parameters())
    1974762
    """
    with torch.random.fork_rng(devices=[]):
        # A network from elsewhere may hold parameters that `initialise` does not know.
        torch.manual_seed(key % 2**64)
        network = lay_out(name, classes, shape, **options)
    return initialise(network, key, scheme_in(options))


def lay_out(name: str, classes: int, shape: Sequence[int], **options: Any) -> nn.Module:
    """`build` without choosing the weights (on torch's ``meta`` device it costs nothing)."""
    factory = networks.get(name)
    if classes < 2:
        raise ModelError(f"a classifier of {classes} classes", why="it needs at least 2")
    if not shape or any(size < 1 for size in shape):
        raise ModelError(f"input shape {tuple(shape)}", why="every size must be at least 1")
    sizes = sizes_in(options)
    scheme_in(options)
    own = {key: value for key, value in options.items() if key not in (OPTION, INITIALISATION)}
    try:
        network = factory(classes, tuple(shape), **own)
        return network if sizes is None else Generated(network, sizes)
    except PhalanxError:
        raise
    except TypeError as error:
        raise ParameterError(f"network {name!r} does not take these options: {error}") from error
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"network {name!r} cannot be built for {tuple(shape)}: {error}") from error


def image_shape(network: str, shape: Sequence[int], smallest: int) -> tuple[int, int, int]:
    """``shape`` as (channels, height, width), refused where ``network`` cannot read it."""
    if len(shape) != 3 or min(shape[1:]) < smallest:
        raise ModelError(
            f"{network} cannot read inputs of shape {tuple(shape)}",
            why=f"it reads images (channels, height, width) of at least {smallest} x {smallest}",
            repair="use the network 'mlp'" if network != "mlp" else "",
        )
    channels, height, width = shape
    return channels, height, width
