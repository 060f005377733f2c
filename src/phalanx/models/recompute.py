"""Activation checkpointing: a block's activations are computed again instead of being kept.

A backward pass needs what the forward pass computed. Keeping only what goes into every block, and
computing the rest again when it is asked for, trades a second forward pass for memory (Chen et
al. 2016, arXiv 1604.06174). The numbers are the same.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from phalanx.errors import ConfigurationError


class Block(nn.Module):
    """A part of a network that can be computed again: a function of its input and parameters.

    Attributes:
        recomputed: whether it is, in training.
    """

    recomputed: bool = False

    @abstractmethod
    def body(self, x: Tensor) -> Tensor:
        """What the block computes."""

    def forward(self, x: Tensor) -> Tensor:
        """`body`."""
        if self.recomputed and self.training and torch.is_grad_enabled():
            contexts = nullcontext(), _CountedBefore(self)  # of the first time, and of the others
            out: Tensor = checkpoint(self.body, x, use_reentrant=False, context_fn=lambda: contexts)
            return out
        return self.body(x)


def recompute_blocks(network: nn.Module, name: str) -> int:
    """Let every `Block` of ``network`` be recomputed from now on; how many there are.

    Raises:
        ConfigurationError: there is none; ``name`` is what the message calls the network.
    """
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    if not blocks:
        raise ConfigurationError(
            f"the network {name!r} has no blocks that could be recomputed",
            repair="--set checkpoint_activations=false, and --set accumulate=... for less memory",
        )
    for block in blocks:
        block.recomputed = True
    return len(blocks)


class _CountedBefore:
    """Batch normalisation has moved its running statistics by this batch already.

    Entered once for every backward pass: twice where gradients are themselves differentiated.
    """

    def __init__(self, block: Block) -> None:
        self._norms = [m for m in block.modules() if isinstance(m, _BatchNorm)]

    def __enter__(self) -> None:
        self._before = [(norm.momentum, norm.num_batches_tracked) for norm in self._norms]
        for norm in self._norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *error: object) -> None:
        for norm, (momentum, tracked) in zip(self._norms, self._before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
