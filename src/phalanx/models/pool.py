"""Max pooling by maxima of shifted views, for a CPU.

torch's max pooling also finds where each maximum lies, which takes many times as long as the
maximum itself: in a LeNet it is two fifths of a pass. The maximum of the values is the same number.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn

from phalanx.models.swap import swap_layers
from phalanx.models.validate import hooked


class PooledMaxima(nn.Module):
    """Max pooling over windows that lie side by side, NaN kept.

    Args:
        size: height and width of a window.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W) -> (B, C, H // height, W // width)``; what fits no window is dropped."""
        for dim, size in zip((-2, -1), self.size, strict=True):
            whole = x.shape[dim] // size
            places = [_every(x, dim, start, size, whole) for start in range(size)]
            x = reduce(torch.maximum, places)
        return x


def pool_by_maxima(network: nn.Module) -> tuple[nn.Module, int]:
    """``network`` with its max pooling over windows side by side as maxima, and how many.

    The original is not touched. Layers with hooks, subclasses, and those whose windows overlap,
    are padded, dilated or rounded up stay as they are.

    >>> pool_by_maxima(nn.MaxPool2d(2))[1], pool_by_maxima(nn.MaxPool2d(3, stride=2))[1]
    (1, 0)
    """
    return swap_layers(network, _maxima)


def _maxima(layer: nn.Module) -> PooledMaxima | None:
    if type(layer) is not nn.MaxPool2d or hooked(layer):
        return None
    size, stride = _pair(layer.kernel_size), _pair(layer.stride)
    plain = _pair(layer.padding) == (0, 0) and _pair(layer.dilation) == (1, 1)
    if size != stride or not plain or layer.ceil_mode or layer.return_indices:
        return None
    return PooledMaxima(size)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _every(x: Tensor, dim: int, start: int, step: int, count: int) -> Tensor:
    """Values ``start``, ``start + step``, ... of an axis, so many of them."""
    at = [slice(None)] * x.ndim
    at[dim] = slice(start, start + step * (count - 1) + 1 if count else start, step)
    return x[tuple(at)]
