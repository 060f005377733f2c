"""Spectral norms from above: no answer is below the true norm, roundings included.

A power iteration approaches the norm from below and proves nothing. Gram iteration (Delattre et al.
2023, arXiv 2305.16173) comes from above: ``|A|_2 = |A* A|_2^(1/2) <= |A* A|_F^(1/2)``, and so on
with the product in A's place, twice as many digits a step. Everything is float64, and each
product's rounding error is added to its norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

UNIT = 2.0**-53
STEPS = 12
"""Products; a matrix of rank r is then bounded within a factor of ``r^(1 / 2^13)``."""


def gamma(terms: int) -> float:
    """Relative error of a sum of so many products, in any order: ``n u / (1 - n u)``."""
    return terms * UNIT / (1 - terms * UNIT)


def outward(value: Tensor, terms: int) -> Tensor:
    """A value that is not below the exact one, of which it was computed in so many operations."""
    return value * (1 + 2 * gamma(terms + 2))


def spectral_norm(matrix: Tensor, steps: int = STEPS) -> Tensor:
    """Upper bounds of ``|A|_2`` for matrices ``(..., m, n)``, real or complex: float64 ``(...)``.

    ``|A|_2^2 <= |fl(A* A)|_2 + g |A|_F^2`` with g the error of a product's entries, and at the end
    the Frobenius norm. Scaling is by powers of two, which is exact.

    >>> round(spectral_norm(torch.diag(torch.tensor([3.0, 4.0]))).item(), 6)
    4.0
    """
    kind = torch.complex128 if matrix.is_complex() else torch.float64
    a = matrix.to(kind)
    if a.shape[-2] > a.shape[-1]:
        a = a.mH  # the norm is the same, and A* A shall be the smaller product
    a = a.mH  # (n, m) with m <= n: A* A is (m, m)
    return _norm(a, steps)


def _norm(a: Tensor, steps: int) -> Tensor:
    size = outward(torch.linalg.matrix_norm(a), 4 * a.shape[-1] * a.shape[-2])
    if steps == 0:
        return size
    power = torch.where(size > 0, torch.frexp(size).exponent, 0)
    scale = torch.ldexp(torch.ones_like(size), power)
    a = a / scale[..., None, None]
    own = size / scale  # at most 1
    inner = _norm(a.mH @ a, steps - 1)
    slack = 2 * gamma(4 * a.shape[-2] + 4) * own.square() + 1e-290
    found = outward(torch.sqrt(outward(inner + slack, 2)), 2) * scale
    return torch.minimum(found, size)


def convolution_norm(
    weight: Tensor,
    sizes: Sequence[int],
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> float:
    """An upper bound of the norm of a convolution with zero padding.

    A strided convolution is one of stride 1 on images whose blocks of ``stride`` pixels have become
    channels. On the padded image no window leaves the image, so it is part of the convolution on a
    circle of that size, whose norm is the largest over its frequencies of the norms of matrices
    ``(out, in * stride^2)`` (Sedghi et al. 2019). Zero padding and edges only leave rows out of
    that, so the circle bounds it; the reverse, taking the circular norm on the image's own size,
    would not.

    Args:
        weight: ``(out, in / groups, *kernel)``.
        sizes: of the input, behind the channels.
        stride, padding, dilation: one number an axis.
        groups: of channels.

    >>> round(convolution_norm(torch.ones(1, 1, 2), [9], stride=[1], padding=[0], dilation=[1]), 4)
    2.0
    """
    kernel = _phases(_dilated(weight.double(), dilation), stride)
    circle = [-(-(n + 2 * p) // s) for n, p, s in zip(sizes, padding, stride, strict=True)]
    taps = list(product(*(range(k) for k in kernel.shape[2:])))
    # Kernels are real: frequencies w and -w have conjugate matrices, and half an axis is enough.
    axes = [range(n) for n in circle[:-1]] + [range(circle[-1] // 2 + 1)]
    frequencies = torch.tensor(list(product(*axes)), dtype=torch.float64)
    turns = torch.tensor(taps, dtype=torch.float64) / torch.tensor(circle, dtype=torch.float64)
    angles = -2 * math.pi * (frequencies @ turns.T)
    waves = torch.polar(torch.ones_like(angles), angles)
    out, flat = len(weight) // groups, kernel.flatten(2)
    largest = 0.0
    for group in range(groups):
        own = flat[group * out : (group + 1) * out]
        blocks = torch.einsum("ft,oit->foi", waves, own.to(waves.dtype))
        found = max(part.max().item() for part in map(spectral_norm, blocks.split(256)))
        # An entry is off by its sum's rounding and by the angles', which grow with the circle.
        turned = gamma(2 * len(taps) + 16 * (1 + sum(circle)) * len(circle))
        off = turned * torch.linalg.matrix_norm(own.abs().sum(2)).item()
        largest = max(largest, found + 4 * off)
    return largest * (1 + 8 * UNIT)


def _dilated(weight: Tensor, dilation: Sequence[int]) -> Tensor:
    """The kernel with its gaps filled with zeros."""
    sizes = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    wide = weight.new_zeros(*weight.shape[:2], *sizes)
    gaps: tuple[Any, ...] = tuple(slice(None, None, d) for d in dilation)
    wide[(..., *gaps)] = weight
    return wide


def _phases(weight: Tensor, stride: Sequence[int]) -> Tensor:
    """Kernel of stride 1 on images whose blocks are channels: ``(out, in s.., k / s..)``."""
    for axis, s in enumerate(stride, 2):
        missing = -weight.shape[axis] % s
        if missing:
            zeros = weight.new_zeros(*weight.shape[:axis], missing, *weight.shape[axis + 1 :])
            weight = torch.cat([weight, zeros], axis)
        weight = weight.unflatten(axis, (-1, s)).movedim(axis + 1, 1).flatten(1, 2)
    return weight


def schur_norm(rows: Tensor, columns: Tensor) -> float:
    """``sqrt(largest row sum * largest column sum)``, of absolute values, bounds the norm."""
    found = torch.sqrt(rows.abs().max().double() * columns.abs().max().double())
    return outward(found, max(rows.numel(), columns.numel())).item()
