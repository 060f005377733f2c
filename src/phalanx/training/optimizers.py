"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn, optim

from phalanx.training.recipe import OptimizerPart


def make_optimizer(part: OptimizerPart, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """The recipe's optimiser; ``fused`` does all parameters of a device in one pass."""
    if part.name == "sgd":
        return optim.SGD(
            parameters,
            lr=part.lr,
            momentum=part.momentum,
            nesterov=part.nesterov,
            weight_decay=part.weight_decay,
            fused=True,
        )
    kind = {"adam": optim.Adam, "adamw": optim.AdamW}[part.name]
    return kind(parameters, lr=part.lr, weight_decay=part.weight_decay, fused=True)


def set_learning_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Use ``rate`` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
