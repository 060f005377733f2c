"""The members as they are run: folded, cast and laid out for one device.

Precision and folding change rounding, so they are part of every classifier's identity;
the memory format is recorded with the run because it may move a vote that ties.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.errors import ModelError, ParameterError
from phalanx.models.fold import fold_batchnorm
from phalanx.models.inplace import reuse_buffers
from phalanx.models.model import Model

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Layout:
    """How the members are run.

    Attributes:
        precision: ``"fp32"`` or ``"bf16"``; noise is added in fp32 either way.
        channels_last: memory format of 4-D inputs and weights.
        fold: fold BatchNorm into the layer before it.
    """

    precision: str = "fp32"
    channels_last: bool = True
    fold: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ParameterError(
                f"precision {self.precision!r}", repair="--precision fp32, or --precision bf16"
            )

    def arithmetic(self) -> Mapping[str, Any]:
        """The part that belongs to a classifier's identity."""
        return {"precision": self.precision, "folded": self.fold}


class MemberBank:
    """Ready-to-run copies of the members; the originals are left alone."""

    def __init__(self, models: Sequence[Model], layout: Layout, device: torch.device) -> None:
        self.classes, self.layout, self.device = models[0].classes, layout, device
        self._dtype = PRECISIONS[layout.precision]
        self._models = [model.to(device) for model in map(deepcopy, models)]
        self._networks = [self._prepare(model.network) for model in self._models]

    def __len__(self) -> int:
        return len(self._networks)

    def logits(self, x: Tensor) -> Tensor:
        """Logits float32 ``(M, B, C)`` of inputs float32 ``(B, *shape)`` in input units."""
        return torch.stack(
            [
                self._run(model, network, x)
                for model, network in zip(self._models, self._networks, strict=True)
            ]
        )

    def buffer(self, batch: int, shape: Sequence[int]) -> Tensor:
        """An input buffer of the run's one batch shape, zero-filled."""
        zeros = torch.zeros((batch, *shape), device=self.device)
        return zeros.contiguous(memory_format=self.memory_format(zeros.ndim))

    def memory_format(self, dimensions: int) -> torch.memory_format:
        """The format of inputs with that many axes, the batch included."""
        use = self.layout.channels_last and dimensions == 4
        return torch.channels_last if use else torch.contiguous_format

    def _prepare(self, network: nn.Module) -> nn.Module:
        if self.layout.fold:
            network, _ = fold_batchnorm(network)
        reuse_buffers(network)
        network = network.to(self._dtype)
        if self.layout.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network.requires_grad_(False)

    def _run(self, model: Model, network: nn.Module, x: Tensor) -> Tensor:
        logits = network(model.normalise(x).to(self._dtype))
        if logits.shape != (len(x), self.classes):
            raise ModelError(
                f"{model.card.name} returned logits of shape {tuple(logits.shape)}",
                why=f"{len(x)} inputs and {self.classes} classes need {(len(x), self.classes)}",
                repair="declare the right number with --classes",
            )
        return logits.float()
