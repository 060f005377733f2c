"""Convolution; its adjoint is a transposed convolution, so that no matrix is ever made."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import Affine, merged, rows
from phalanx.graph.ir import Node

CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
TRANSPOSED = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)


def strided(node: Node) -> bool:
    """Whether `by_phases` is for it: an image, one stride above 1 for both axes."""
    a = node.attributes
    plain = a["groups"] == 1 and set(a["dilation"]) == {1}
    return plain and len(a["stride"]) == 2 and a["stride"][0] == a["stride"][1] > 1


def by_phases(rows: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The transposed convolution without padding, or more: zeros follow its last row and column.

    Places of the result that differ by a multiple of the stride are reached by the same part of
    the kernel: one dense convolution gives all parts, and a shuffle puts them side by side.

    >>> rows, weight = torch.randn(2, 3, 4, 5), torch.randn(3, 2, 3, 3)
    >>> plain = torch.conv_transpose2d(rows, weight, None, 2)
    >>> torch.allclose(by_phases(rows, weight, 2)[:, :, :9, :11], plain, atol=1e-5)
    True
    """
    into, out, *kernel = weight.shape
    parts = [-(-k // stride) for k in kernel]
    sides = [n * stride - k for n, k in zip(parts, kernel, strict=True)]
    whole = torch.nn.functional.pad(weight, [0, sides[1], 0, sides[0]])
    whole = whole.reshape(into, out, parts[0], stride, parts[1], stride)
    whole = whole.permute(1, 3, 5, 0, 2, 4).flip(4, 5).reshape(-1, into, *parts)
    found = torch.conv2d(rows, whole, None, 1, [n - 1 for n in parts])
    return torch.nn.functional.pixel_shuffle(found, stride)


class Conv(Affine):
    """One, two or three axes behind the channels."""

    def linear(self, node: Node, *values: Tensor) -> Tensor:
        """Without the bias."""
        return _convolved(node, values[0], node.tensors["weight"])

    def magnitude(self, node: Node, *values: Tensor) -> Tensor:
        """With the absolute values of the weights."""
        return _convolved(node, values[0], node.tensors["weight"].abs())

    def offset(self, node: Node) -> Tensor | None:
        """``b``, channel by channel."""
        bias = node.tensors.get("bias")
        return None if bias is None else bias.reshape(-1, *[1] * (len(node.shape) - 1))

    def adjoint(self, node: Node, rows: Tensor) -> list[Tensor]:
        """What the last windows do not reach is put back by output padding."""
        a, weight = node.attributes, node.tensors["weight"]
        sizes = a["input"]
        if strided(node):
            back = by_phases(merged(rows), weight, a["stride"][0])
            (p, q), (height, width) = a["padding"], sizes[1:]
            lack = [max(p + height - back.shape[2], 0), max(q + width - back.shape[3], 0)]
            back = torch.nn.functional.pad(back, [0, lack[1], 0, lack[0]]) if any(lack) else back
            back = back[:, :, p : p + height, q : q + width]
            return [back.reshape(*rows.shape[:2], *sizes)]
        extra = [
            size - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
            for size, out, s, p, d, k in zip(
                sizes[1:], node.shape[1:], a["stride"], a["padding"], a["dilation"],
                weight.shape[2:], strict=True,
            )
        ]  # fmt: skip
        function = TRANSPOSED[len(extra) - 1]
        # A stride that leaves more out than output padding can say: pad, and the rest is zero.
        allowed = [
            min(e, max(s, d) - 1) for e, s, d in zip(extra, a["stride"], a["dilation"], strict=True)
        ]
        back = function(
            merged(rows),
            weight,
            None,
            a["stride"],
            a["padding"],
            allowed,
            a["groups"],
            a["dilation"],
        )
        missing = [e - k for e, k in zip(extra, allowed, strict=True)]
        if any(missing):
            back = torch.nn.functional.pad(back, [n for m in reversed(missing) for n in (0, m)])
        return [back.reshape(*rows.shape[:2], *sizes)]

    def norm(self, node: Node, order: float) -> Tensor | None:
        """Of the kernels: at the edge, where part of one is over zeros, the norm is smaller."""
        kernels = node.tensors["weight"].flatten(1)
        found = torch.linalg.vector_norm(kernels, ord=order, dim=1)
        return found.reshape(-1, *[1] * (len(node.shape) - 1))


def _convolved(node: Node, x: Tensor, weight: Tensor) -> Tensor:
    a = node.attributes
    function = CONVOLUTIONS[len(a["stride"]) - 1]
    return function(x, weight, None, a["stride"], a["padding"], a["dilation"], a["groups"])


rows.register("conv")(Conv())
