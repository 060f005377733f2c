"""Layers fused with the ReLU or the addition behind them, as one oneDNN kernel on a CPU.

A convolution whose output is written, read, rectified and written again spends as much time on
memory as on products; the fused kernel rectifies, or adds the shortcut of a residual block,
before it writes. It rounds the sum of a residual block once instead of twice, so fusing belongs
to a classifier's identity.
"""

from __future__ import annotations

import operator
from typing import NamedTuple, cast

import torch
from torch import Tensor, fx, nn

from phalanx.models.fold import trace

SLOPE = 2.0**-56
"""oneDNN's fused ReLU answers 0 to NaN, which would hide an overflow from whoever counts votes;
its leaky ReLU keeps NaN. What this slope adds is 2**-32 of float32's rounding of the same value."""

_ADDITIONS = (operator.add, operator.iadd, torch.add)
_RECTIFIERS = (torch.relu, torch.relu_, nn.functional.relu)


class FusedConv2d(nn.Module):
    """ReLU of the convolution of ``x``, or of its sum with ``shortcut``.

    ``x`` is ``(B, C, H, W)`` on a CPU, float32 or bfloat16 like the weights; ``shortcut`` has
    the shape of the output. The layer's parameters are shared, not copied.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.geometry = (layer.padding, layer.stride, layer.dilation, layer.groups)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """``relu(conv(x))`` or ``relu(conv(x) + shortcut)``."""
        ops, (weight, bias) = torch.ops.mkldnn, (self.weight, self.bias)
        if shortcut is None:
            pointwise = ops._convolution_pointwise
            return pointwise(x, weight, bias, *self.geometry, "leaky_relu", [SLOPE], "")
        total = ops._convolution_pointwise.binary(
            x, shortcut, weight, bias, *self.geometry, "add", 1.0, None, [], ""
        )
        return total.relu_()


class FusedLinear(nn.Module):
    """ReLU of a linear layer: ``(B, in) -> (B, out)``, see `FusedConv2d`.

    Args:
        layer: the layer.
        channels: of the images ``(B, channels, H, W)`` it reads flattened; the weights are put in
            the order in which channels-last images lie, so that nothing is copied to flatten them.
    """

    def __init__(self, layer: nn.Linear, channels: int | None = None) -> None:
        super().__init__()
        self.weight, self.bias, self.reads_images = layer.weight, layer.bias, channels is not None
        if channels is not None:
            by_place = layer.weight.detach().unflatten(1, (channels, -1)).mT.flatten(1)
            self.weight = nn.Parameter(by_place.contiguous(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """``relu(x W^T + b)``."""
        if self.reads_images:
            x = x.permute(0, 2, 3, 1).flatten(1)
        return torch.ops.mkldnn._linear_pointwise(
            x, self.weight, self.bias, "leaky_relu", [SLOPE], ""
        )


class _Pattern(NamedTuple):
    """A layer, the node of the ReLU behind it, and what is added between them."""

    layer: fx.Node
    relu: fx.Node
    shortcut: fx.Node | None = None


def can_fuse(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN has the fused kernels for a device and a dtype."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fuse_pointwise(network: nn.Module) -> tuple[nn.Module, int]:
    """``network`` with every fusible layer fused, and how many there were.

    The original is not touched. A network with hooks and one that `torch.fx` cannot trace come
    back as they are, with 0. Run it where `can_fuse` says so.
    """
    if (traced := trace(network)) is None:
        return network, 0
    fused = 0
    for node in list(traced.graph.nodes):
        if pattern := _pattern(traced, node):
            _replace(traced, pattern, f"fused_{fused}")
            fused += 1
    if not fused:
        return network, 0
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced, fused


def _pattern(traced: fx.GraphModule, relu: fx.Node) -> _Pattern | None:
    """What is fused with a ReLU, if ``relu`` is one and nobody else reads what it reads."""
    if not _rectifies(traced, relu) or not isinstance(source := relu.args[0], fx.Node):
        return None
    if _fusible(traced, source, (nn.Conv2d, nn.Linear)):
        return _Pattern(source, relu)
    if not _adds(source) or len(source.users) > 1:
        return None
    terms = [term for term in source.args if isinstance(term, fx.Node)]
    # In-place addition writes to its first term, which others may read.
    layers = terms[:1] if source.target is operator.iadd else terms
    for layer in layers:
        if _fusible(traced, layer, (nn.Conv2d,)):
            return _Pattern(layer, relu, terms[1 - terms.index(layer)])
    return None


def _adds(node: fx.Node) -> bool:
    """Whether a node is the plain sum of two different tensors."""
    terms = [term for term in node.args if isinstance(term, fx.Node)]
    sums = node.op == "call_function" and node.target in _ADDITIONS
    return sums and len(set(terms)) == len(node.args) == 2 and not node.kwargs


def _rectifies(traced: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return type(traced.get_submodule(str(node.target))) is nn.ReLU
    plain = len(node.args) == 1 and set(node.kwargs) <= {"inplace"}
    return node.op == "call_function" and node.target in _RECTIFIERS and plain


def _fusible(traced: fx.GraphModule, node: fx.Node, kinds: tuple[type[nn.Module], ...]) -> bool:
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs or len(node.users) > 1:
        return False
    layer = traced.get_submodule(str(node.target))
    if type(layer) not in kinds:
        return False
    return not isinstance(layer, nn.Conv2d) or (
        layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    )


def _replace(traced: fx.GraphModule, pattern: _Pattern, name: str) -> None:
    layer, x = traced.get_submodule(str(pattern.layer.target)), pattern.layer.args[0]
    # From the last to the first, so that each has lost its reader before it goes.
    gone = [pattern.relu, pattern.relu.args[0], pattern.layer]
    if isinstance(layer, nn.Conv2d):
        traced.add_module(name, FusedConv2d(layer))
    else:
        channels = _flattened_channels(traced, x)
        traced.add_module(name, FusedLinear(cast(nn.Linear, layer), channels))
        if channels is not None:
            gone, x = [*gone, x], cast(fx.Node, x).args[0]
    with traced.graph.inserting_before(pattern.relu):
        inputs = (x,) if pattern.shortcut is None else (x, pattern.shortcut)
        fused = traced.graph.call_module(name, inputs)
    pattern.relu.replace_all_uses_with(fused)
    for node in dict.fromkeys(gone):
        traced.graph.erase_node(cast(fx.Node, node))


def _flattened_channels(traced: fx.GraphModule, node: object) -> int | None:
    """Channels of the convolution whose output alone ``node`` flattens, None if it does not."""
    if not isinstance(node, fx.Node) or node.op != "call_module" or len(node.users) > 1:
        return None
    flatten, source = traced.get_submodule(str(node.target)), node.args[0]
    if type(flatten) is not nn.Flatten or (flatten.start_dim, flatten.end_dim) != (1, -1):
        return None
    if not isinstance(source, fx.Node) or source.op != "call_module":
        return None
    layer = traced.get_submodule(str(source.target))
    return len(layer.weight) if isinstance(layer, FusedConv2d | nn.Conv2d) else None
