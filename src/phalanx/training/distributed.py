"""Data-parallel training under ``torchrun``: more processes change rounding, nothing else.

Every process takes its rows of each global batch and of that step's noise. Its loss is
weighted by its share of the rows and gradients are summed, so the sum over processes is the
gradient of the whole batch; batch normalisation uses the statistics of the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from phalanx.errors import ConfigurationError

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class Team:
    """The processes that share one training.

    Attributes:
        rank: this process, 0 <= rank < world. Rank 0 leads: it alone writes files.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """This process's rows of a batch of ``count``; shares differ by at most one row.

        >>> [Team(rank, 3).rows(8) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def parts(self, count: int) -> list[Team]:
        """This process as ``count`` members of a team that is so many times as large.

        >>> [part.rows(12) for part in Team(1, 2).parts(3)]
        [slice(6, 8, None), slice(8, 10, None), slice(10, 12, None)]
        """
        return [Team(self.rank * count + part, self.world * count) for part in range(count)]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the team, in one message."""
        if self.world == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def sum(self, values: Tensor) -> Tensor:
        """Sum of ``values`` over the team."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any process says so; every process must ask."""
        if self.world == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.barrier()


def under_torchrun() -> bool:
    """Whether ``torchrun`` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def own_rank() -> int:
    """This process's rank; 0 where torchrun did not start it."""
    return int(os.environ.get("RANK", "0")) if under_torchrun() else 0


def local_processes() -> int:
    """How many processes torchrun started on this machine; 1 without it."""
    if not under_torchrun():
        return 1
    return int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))


@contextmanager
def joined_team(device: str) -> Iterator[tuple[Team, str]]:
    """The team of this process and its own device; alone where torchrun did not start it."""
    if not under_torchrun():
        yield Team(), device
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigurationError(
            f"WORLD_SIZE is set but {', '.join(missing)} is not", repair="start with torchrun"
        )
    if device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Team(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


def share_batchnorm(module: ModuleT, team: Team, device: str) -> ModuleT:
    """``module`` with batch statistics over the whole team (names and buffers unchanged).

    Changed in place; a batch normalisation must lie inside ``module``, not be it.
    """
    if team.world == 1:
        return module
    if device == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return module
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            # The same module under another forward pass: its parameters stay where they are.
            part.__class__ = _SharedBatchNorm
    return module


class _SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over all processes; PyTorch's own exists for GPUs only."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any shape ``(B, C, ...)``."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(B, C, ...)`` by the team's mean and variance of every channel."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        axes = [0, *range(2, x.ndim)]
        shape = (1, -1) + (1,) * (x.ndim - 2)
        count = _sum_over_team(torch.tensor(float(x.numel() // x.shape[1])))
        mean = _sum_over_team(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = _sum_over_team(centred.square().sum(axes)) / count
        self._track(mean.detach(), variance.detach() * (count / (count - 1)))
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        return normal * self.weight.view(shape) + self.bias.view(shape) if self.affine else normal

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        rate = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            rate = rate or 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, rate or 0.0)
        self.running_var.lerp_(variance, rate or 0.0)


class _TeamSum(torch.autograd.Function):
    """Sum over the team; every process's loss depends on every process's term."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _sum_over_team(values: Tensor) -> Tensor:
    total: Tensor = _TeamSum.apply(values)
    return total
