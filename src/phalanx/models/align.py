"""Layers that round a row alike wherever it lies in its batch: narrow linear ones, and curves.

For few outputs a BLAS may go through a row from the first address that suits its registers. Where
the rows are no multiple of that long, it depends on a row's place which of its values are added
first, and so do the last bits of its logits (seen with MKL for fewer than 16 outputs and rows that
are no multiple of 4 values). Rows that are padded with zeros all begin alike. Of curves such as
the sigmoid the last numbers of a tensor are computed by other code than the others
(`phalanx.runtime.vectors`).
"""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from phalanx.models.swap import swap_layers
from phalanx.models.validate import hooked
from phalanx.runtime.vectors import in_whole_vectors

NARROW = 16
"""Outputs from which on a layer is left as it is."""
LINE = 16
"""float32 values of a cache line, at the start of which every padded row begins."""
CURVES = (
    *(nn.Sigmoid, nn.LogSigmoid, nn.SiLU, nn.Mish, nn.GELU, nn.Softplus),
    *(nn.ELU, nn.CELU, nn.SELU, nn.Tanh, nn.Tanhshrink, nn.Softsign),
)
"""Activations that are neither pieces of lines nor sums over a row."""


class AlignedLinear(nn.Linear):
    """The linear layer, on rows that are padded to whole cache lines; parameters are shared."""

    padded: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.missing = -layer.in_features % LINE
        wider = pad(layer.weight.detach(), (0, self.missing))
        self.register_buffer("padded", wider, persistent=False)
        self.training = layer.training

    def forward(self, input: Tensor) -> Tensor:  # torch's name
        """``x W^T + b`` of inputs ``(..., in_features)``."""
        return linear(pad(input, (0, self.missing)), self.padded, self.bias)


class AlignedCurve(nn.Module):
    """An activation, computed in whole registers only. What it reads is never overwritten."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = copy(layer)
        if getattr(layer, "inplace", False):
            setattr(self.layer, "inplace", False)  # noqa: B010  (torch's types know no such name)
        self.training = layer.training

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return in_whole_vectors(self.layer, x)


def align_rows(network: nn.Module) -> tuple[nn.Module, int]:
    """``network`` with every narrow linear layer and curve aligned, and how many there were.

    The original is not touched. Layers with hooks, which could read another layer's output, and
    subclasses stay as they are.

    >>> align_rows(nn.Linear(13, 3))[1], align_rows(nn.Linear(64, 10))[1]
    (1, 0)
    >>> align_rows(nn.Sequential(nn.SiLU(), nn.ReLU()))[1]
    1
    """
    return swap_layers(network, _aligned)


def _aligned(layer: nn.Module) -> nn.Module | None:
    if hooked(layer):
        return None
    if type(layer) in CURVES:
        return AlignedCurve(layer)
    if type(layer) is not nn.Linear:
        return None
    odd = bool(layer.in_features % LINE)
    narrow = odd and layer.out_features < NARROW and layer.weight.dtype == torch.float32
    return AlignedLinear(layer) if narrow else None
