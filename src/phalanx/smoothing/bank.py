"""The members as they are run: folded, fused, cast and laid out for one device.

Precision, folding and fusing change rounding, so they are part of every classifier's identity;
the memory format is recorded with the run because it may move a vote that ties.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.errors import ModelError, ParameterError
from phalanx.models.align import align_rows
from phalanx.models.fold import UNTRACEABLE, fold_batchnorm
from phalanx.models.fuse import can_fuse, fuse_pointwise
from phalanx.models.hypernetwork import materialised
from phalanx.models.inplace import reuse_buffers
from phalanx.models.model import Model
from phalanx.models.pool import pool_by_maxima
from phalanx.models.validate import (
    check_wrapper,
    hooked,
    keyed_inputs,
    relative_gap,
    tolerance,
)
from phalanx.runtime.device import full_precision
from phalanx.runtime.usercode import user_code

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

REWRITE_TOLERANCE = 1e-4
"""What folding or fusing may change by rounding in fp32, of the largest logit; ten times what
ResNets show."""

Rewrite = Callable[[nn.Module], tuple[nn.Module, int]]
"""A network and how many of its layers were rewritten."""


@dataclass(frozen=True)
class Layout:
    """How the members are run.

    Attributes:
        precision: ``"fp32"`` or ``"bf16"``; noise is added in fp32 either way.
        channels_last: memory format of 4-D inputs and weights.
        fold: fold BatchNorm into the layer before it, where that changes rounding alone.
        fuse: on a CPU, run layers and the ReLU behind them as one kernel, under the same terms.
    """

    precision: str = "fp32"
    channels_last: bool = True
    fold: bool = True
    fuse: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ParameterError(
                f"precision {self.precision!r}", repair="--precision fp32, or --precision bf16"
            )

    def arithmetic(self) -> Mapping[str, Any]:
        """The part that belongs to a classifier's identity."""
        return {"precision": self.precision, "folded": self.fold, "fused": self.fuse}


class MemberBank:
    """Ready-to-run copies of the members; the originals are left alone.

    The copies are made in the first pass, which tells the shape of an input: what makes them
    fast (folding, fusing, layout, reuse of buffers) is kept where they compute, on keyed noisy
    inputs, what the models that were given compute.

    Raises:
        ModelError: a `Model` that is more than normalisation and network; in the first pass, a
            network that fails, or that changes when it is copied.
    """

    def __init__(self, models: Sequence[Model], layout: Layout, device: torch.device) -> None:
        for model in models:
            check_wrapper(model)
        self.classes, self.layout, self.device = models[0].classes, layout, device
        self._dtype = PRECISIONS[layout.precision]
        self._models = list(models)
        self._members: list[tuple[Model, nn.Module]] = []

    def __len__(self) -> int:
        return len(self._models)

    @torch.inference_mode()
    def logits(self, x: Tensor, members: range | None = None) -> Tensor:
        """Logits float32 ``(M, B, C)`` of inputs float32 ``(B, *shape)`` in input units.

        ``members`` asks some of them only.
        Every member reads a copy of ``x``, which is left as it is. Products of float32 numbers
        keep all their bits (no TF32, no autocast).
        """
        with full_precision(self.device):
            if not self._members:
                self._members = [self._prepare(model, x.shape[1:]) for model in self._models]
            asked = range(len(self)) if members is None else members
            return torch.stack([self._run(*self._members[index], x) for index in asked])

    def buffer(self, batch: int, shape: Sequence[int]) -> Tensor:
        """An input buffer of the run's one batch shape, zero-filled."""
        zeros = torch.zeros((batch, *shape), device=self.device)
        return zeros.contiguous(memory_format=self.memory_format(zeros.ndim))

    def memory_format(self, dimensions: int) -> torch.memory_format:
        """The format of inputs with that many axes, the batch included."""
        use = self.layout.channels_last and dimensions == 4
        return torch.channels_last if use else torch.contiguous_format

    @torch.inference_mode(False)
    @torch.no_grad()
    def _prepare(self, original: Model, shape: Sequence[int]) -> tuple[Model, nn.Module]:
        """A copy of a model for its normalisation, and its network as it will be run."""
        x = keyed_inputs(original.inputs, shape)
        name = f"{original.card.name} on inputs of shape {tuple(x.shape)}"
        with user_code(name):
            expected = _answers(original, x.to(_place(original)))
        with user_code(f"copying {original.card.name}"):
            model = deepcopy(original).to(self.device)
        z = model.normalise(x.to(self.device))
        with user_code(f"a copy of {name}"):
            found = _answers(model.network, z)
        if relative_gap(found, expected.to(self.device)) > tolerance(original):
            raise ModelError(
                f"a copy of {original.card.name} gives other logits",
                why="members are run as copies, and a hook or a function in it reads the original",
                repair="let hooks and functions reach the network through their arguments",
            )
        network = _rewritten(model.network, _kernels_once, z, found)
        if self.layout.fold:
            network = _rewritten(network, fold_batchnorm, z, found)
        fused = network
        if self.layout.fuse and can_fuse(self.device, self._dtype):
            fused = _rewritten(network, fuse_pointwise, z, found)
        if self.device.type == "cpu":
            same = fused is network
            network = _for_processors(network, z, found)
            fused = network if same else _for_processors(fused, z, found)
        z = z.to(self._dtype).contiguous(memory_format=self.memory_format(z.ndim))
        network, fused = self._laid_out(network), self._laid_out(fused)
        return model, _reusing(fused if _breaks_alike(fused, network, z) else network, z)

    def _laid_out(self, network: nn.Module) -> nn.Module:
        network = network.to(self._dtype).requires_grad_(False)
        if self.layout.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def _run(self, model: Model, network: nn.Module, x: Tensor) -> Tensor:
        logits = network(model.normalise(x).to(self._dtype))
        if logits.shape != (len(x), self.classes):
            raise ModelError(
                f"{model.card.name} returned logits of shape {tuple(logits.shape)}",
                why=f"{len(x)} inputs and {self.classes} classes need {(len(x), self.classes)}",
                repair="declare the right number with --classes",
            )
        return logits.float()


def _for_processors(network: nn.Module, z: Tensor, expected: Tensor) -> nn.Module:
    """A network with the forms of its layers that suit a CPU."""
    for rewrite in (align_rows, pool_by_maxima):
        network = _rewritten(network, rewrite, z, expected)
    return network


def _kernels_once(network: nn.Module) -> tuple[nn.Module, int]:
    """A network with its generated kernels stored; one with hooks, which that loses, as it is."""
    if any(map(hooked, network.modules())):
        return network, 0
    stored = materialised(network)
    return stored, int(stored is not network)


def _rewritten(network: nn.Module, rewrite: Rewrite, z: Tensor, expected: Tensor) -> nn.Module:
    """The network rewritten, if that changes the ``expected`` logits of ``z`` by rounding alone."""
    rewritten, count = rewrite(network)
    if not count:
        return network
    with suppress(*UNTRACEABLE):  # traced code may even fail where the original does not
        gap = (_answers(rewritten, z) - expected).abs().max()
        if bool(gap <= REWRITE_TOLERANCE * expected.abs().max()):
            return rewritten
    return network


def _breaks_alike(fused: nn.Module, network: nn.Module, z: Tensor) -> bool:
    """Whether NaN and infinity reach the logits of the one where they reach those of the other.

    Kernels differ from processor to processor, and one that hides NaN would hide an overflow.
    """
    if fused is network:
        return True
    broken = z.clone()
    broken[0], broken[1] = torch.nan, torch.inf
    expected = torch.isfinite(_answers(network, broken))
    with suppress(*UNTRACEABLE):  # no such kernel for this dtype here
        return torch.equal(torch.isfinite(_answers(fused, broken)), expected)
    return False


def _reusing(network: nn.Module, z: Tensor) -> nn.Module:
    """The network with activations that overwrite their input, if no bit of a logit changes."""
    reused = deepcopy(network)
    if not reuse_buffers(reused):
        return network
    same = relative_gap(_answers(reused, z), _answers(network, z)) == 0
    return reused if same else network


def _answers(network: nn.Module, x: Tensor) -> Tensor:
    # A copy of x: a network may write to its input.
    with torch.inference_mode():
        return network(x.clone()).float()


def _place(model: nn.Module) -> torch.device:
    return next((values.device for values in model.parameters()), torch.device("cpu"))
