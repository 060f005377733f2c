"""Explicit initialisation: every weight follows from one key, on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from phalanx.errors import ParameterError
from phalanx.models.hypernetwork import GeneratedConv2d, Hypernetwork, draw

OPTION = "initialisation"
"""The option of every network that names one of `SCHEMES`."""

SCHEMES = ("usual", "ibp")


def scheme_in(options: Mapping[str, Any]) -> str:
    """The scheme that a network's options ask for.

    Raises:
        ParameterError: there is no such scheme.

    >>> scheme_in({"hidden": [64]}), scheme_in({"initialisation": "ibp"})
    ('usual', 'ibp')
    """
    scheme = options.get(OPTION, SCHEMES[0])
    if scheme not in SCHEMES:
        raise ParameterError(
            f"the option {OPTION} is {scheme!r}", repair=f"one of {', '.join(SCHEMES)}"
        )
    return str(scheme)


def initialise(network: nn.Module, key: int, scheme: str = "usual") -> nn.Module:
    """Draw the weights of ``network`` in place and return it.

    Convolutions: N(0, 2 / (kernel area * output channels)), biases 0 (He et al. 2015, fan-out
    form, as in the published smoothing code). Linear layers: U(-b, b) with b = 1 / sqrt(inputs),
    biases too. Under the scheme ``ibp`` both are N(0, 2 pi / n^2) with n inputs of a unit, biases
    0: boxes then come out of a layer and its ReLU about as wide as they went in (Shi et al. 2021,
    arXiv 2103.16871, section 3.1). BatchNorm: 1, 0 and fresh statistics. What is generated
    (`hypernetwork`) starts with the variance it would have if it were stored. Other modules are
    left as they are.

    Args:
        network: any module; visited in registration order.
        key: 0 <= key < 2**128, the key of a counter-based generator (numpy's Philox).
        scheme: one of `SCHEMES`.

    >>> a, b = (initialise(nn.Linear(3, 2), key=7).weight for _ in range(2))
    >>> torch.equal(a, b)
    True
    """
    if not 0 <= key < 2**128:
        raise ParameterError(f"initialisation key {key}", why="it must lie in 0 .. 2**128 - 1")
    generator = np.random.Generator(np.random.Philox(key=key))
    for module in network.modules():
        if scheme == "ibp" and isinstance(module, nn.Conv2d | nn.Linear):
            inputs = math.prod(module.weight.shape[1:])
            spread = math.sqrt(2 * math.pi) / inputs
            _fill(module.weight, generator.normal(0, spread, tuple(module.weight.shape)))
            _zero(module.bias)
        elif isinstance(module, nn.Conv2d):
            spread = math.sqrt(2 / (math.prod(module.kernel_size) * module.out_channels))
            _fill(module.weight, generator.normal(0, spread, tuple(module.weight.shape)))
            _zero(module.bias)
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            for values in (module.weight, module.bias):
                if values is not None:
                    _fill(values, generator.uniform(-bound, bound, tuple(values.shape)))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()
        elif isinstance(module, Hypernetwork | GeneratedConv2d):
            for place, values in draw(
                module, lambda spread, shape: generator.normal(0, spread, shape)
            ):
                _fill(place, np.broadcast_to(values, tuple(place.shape)))
    return network


def _fill(parameter: Tensor, values: np.ndarray) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(values)))


def _zero(parameter: Tensor | None) -> None:
    if parameter is not None:
        with torch.no_grad():
            parameter.zero_()
