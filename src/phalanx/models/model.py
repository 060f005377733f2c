"""`Model`: a network together with the inputs it expects and the classes it names.

Range and normalisation live inside the model, so sigma, eps and radii are always in input
space, whatever the network was trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.errors import ModelError


@dataclass(frozen=True)
class InputSpec:
    """What a network expects at its input.

    Attributes:
        range: smallest and largest value of a clean input, for example ``(0, 1)``.
        mean, std: per channel (of rows: per feature), in the units of ``range``; empty means the
            network normalises inside (or needs no normalisation).
        shape: one input without the batch axis, or None where the network takes several.
    """

    range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        # 0 and 0.0 are one number, but a hash of their text is not.
        for name in ("range", "mean", "std"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if len(self.range) != 2:
            raise ModelError(f"the input range is {self.range}", repair="--input-range 0 1")
        low, high = self.range
        if not (low < high and all(map(math.isfinite, (low, high)))):
            raise ModelError(
                f"the input range is {low} .. {high}",
                why="it must be two finite numbers in increasing order",
                repair="--input-range 0 1",
            )
        if len(self.mean) != len(self.std):
            raise ModelError(
                f"{len(self.mean)} means and {len(self.std)} standard deviations",
                why="there must be one of each per channel",
                repair="--mean 0.5,0.5,0.5 --std 0.25,0.25,0.25",
            )
        if not all(math.isfinite(m) for m in self.mean) or not all(
            math.isfinite(s) and s > 0 for s in self.std
        ):
            raise ModelError(
                f"normalisation mean {self.mean} std {self.std} is not usable",
                why="means must be finite and standard deviations finite and above 0",
            )
        if self.shape and self.mean and len(self.mean) not in (1, self.shape[0]):
            raise ModelError(
                f"{len(self.mean)} means for inputs of shape {self.shape}",
                why=f"there must be one, or one for each of {self.shape[0]} channels",
            )


@dataclass(frozen=True)
class ModelCard:
    """What is known about a model beside its weights; written next to a checkpoint.

    ``architecture`` and ``options`` rebuild the network; ``sigma`` is the noise level it was
    trained for (None: not known; 0: trained without noise), ``noise`` its distribution (None:
    not known, or there was none) and ``order`` that of a family;
    ``digest`` is `weights_digest`. ``extra`` holds recipe, data and metrics.
    """

    name: str
    architecture: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    sigma: float | None = None
    digest: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    noise: str | None = None
    order: int | None = None


class Model(nn.Module):
    """A network, its input specification and its number of classes.

    Args:
        network: maps a normalised batch ``(B, *shape)`` to logits ``(B, classes)``.
        inputs: see `InputSpec`.
        classes: number of classes, at least 2.
        card: provenance; a default one is made from the network's class name.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, inputs: InputSpec, classes: int, card: ModelCard | None = None
    ) -> None:
        super().__init__()
        if classes < 2:
            raise ModelError(f"a classifier of {classes} classes", why="it needs at least 2")
        self.network, self.inputs, self.classes = network, inputs, classes
        self.card = card or ModelCard(name=type(network).__name__)
        # The mode is the network's: wrapping an evaluated network does not unsettle it.
        self.training = network.training
        if inputs.mean:
            self.register_buffer("mean", torch.tensor(inputs.mean), persistent=False)
            self.register_buffer("std", torch.tensor(inputs.std), persistent=False)

    @property
    def sigma(self) -> float | None:
        """Noise level the weights were trained for, if the card says so."""
        return self.card.sigma

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of inputs ``(B, *shape)`` in ``inputs.range`` units."""
        return self.network(self.normalise(x))

    def normalise(self, x: Tensor) -> Tensor:
        """Inputs in the units the network was trained on, in a tensor of their own.

        A network may write to its input (``x.clamp_(0, 1)``); other members read the same ``x``.
        """
        if not self.inputs.mean:
            return x.clone()
        channels = (1, -1, *[1] * (x.ndim - 2))  # they come first, as in torch
        return (x - self.mean.view(channels)) / self.std.view(channels)
