"""Batch normalisation whose gradient is cheap to differentiate once more.

Losses that look at input gradients differentiate through the backward pass of batch
normalisation. torch composes that derivative of some thirty reductions over the whole activation,
more than half of a ResNet's step on a CPU. Of its pieces nearly all are what the backward pass
itself computes, so here it is one more of those, one product and one sum.

With ``m`` values a channel, ``r = (var + eps)^(-1/2)``, ``z = (x - mean) r``, and the projection
``P(v) = v - mean(v) - z mean(v z)``, the backward pass is ``gamma r P(g)``. Its product with ``u``
is ``gamma r K`` with ``K = sum(u g) - sum(u) sum(g) / m - sum(u z) sum(g z) / m``, and so

    d/dg = gamma r P(u)        d/dgamma = r K
    d/dx = -(gamma r^2 / m) (K z + sum(g z) P(u) + sum(u z) P(g)).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

CHANNELS = (1, -1, 1, 1)
REDUCED = (0, 2, 3)


class TwiceBatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, in training on the formulas above; the same numbers and buffers.

    Its gradient by the input can be differentiated once; that by its parameters cannot.
    """

    def forward(self, input: Tensor) -> Tensor:  # torch's name
        """``(B, C, H, W)`` in and out."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        statistics = self.running_mean, self.running_var, self.momentum, self.eps
        out: Tensor = _Normalise.apply(input, self.weight, self.bias, *statistics)
        return out


def differentiate_twice(network: nn.Module) -> int:
    """Turn every batch normalisation of images in ``network`` into one of these, in place.

    Returns:
        How many there were. Subclasses, and those without parameters or running statistics, stay
        as they are: they work, slowly.
    """
    norms = [m for m in network.modules() if type(m) is nn.BatchNorm2d and _usual(m)]
    for norm in norms:
        norm.__class__ = TwiceBatchNorm2d
    return len(norms)


def _usual(norm: nn.BatchNorm2d) -> bool:
    return norm.affine and norm.track_running_stats and norm.momentum is not None


class _Normalise(Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - autograd functions take no keywords
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        out, mean, scale = torch.native_batch_norm(
            x, weight, bias, running_mean, running_var, True, momentum, eps
        )
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.eps = eps
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return (*_Gradient.apply(g, *ctx.saved_tensors, ctx.eps), None, None, None, None)


class _Gradient(Function):
    """By x, weight and bias; of these three, what depends on the first can be differentiated."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd functions take no keywords
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = _backward(g, x, weight, mean, scale, eps)
        ctx.save_for_backward(g, x, weight, mean, scale, *found)
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, u: Tensor | None, by_weight: Tensor | None, by_bias: Tensor | None
    ) -> Any:
        if by_weight is not None or by_bias is not None:
            raise NotImplementedError(
                "gradients by batch normalisation's parameters, differentiated"
            )
        if u is None:
            return (None,) * 6
        g, x, weight, mean, scale, gx, sum_gz, sum_g = ctx.saved_tensors
        dg, sum_uz, sum_u = _backward(u, x, weight, mean, scale, ctx.eps)
        m = x.numel() // x.shape[1]
        k = (u * g).sum(REDUCED, dtype=sum_g.dtype) - (sum_u * sum_g + sum_uz * sum_gz) / m
        factor = -scale / m
        # K z gamma r  +  sum(g z) gamma r P(u)  +  sum(u z) gamma r P(g), times -r / m
        slope = factor * k * weight * scale * scale
        dx = (x - mean.view(CHANNELS)).mul_(slope.view(CHANNELS))
        dx.addcmul_(dg, (factor * sum_gz).view(CHANNELS))
        dx.addcmul_(gx, (factor * sum_uz).view(CHANNELS))
        return dg, dx.to(x.dtype), k * scale, None, None, None


def _backward(  # noqa: PLR0917 - the operator's own order
    g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """By x, weight (``sum(g z)``) and bias (``sum(g)``), from torch's fused kernel."""
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
        g.contiguous(memory_format=torch.channels_last) if _by_channel(x) else g,
        x, weight, None, None, mean, scale, True, eps, [True, True, True],
    )  # fmt: skip
    return found


def _by_channel(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
