"""BatchNorm folded into the convolution or linear layer before it, for evaluation."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import cast

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from phalanx.models.validate import hooked

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_KEEP_FLAT = (nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Identity, nn.Dropout)
_READS = ("call_module", "get_attr")

# Tracing runs the network's own Python on stand-ins for tensors; these are what code that
# needs real tensors answers with. Such a network is run as it is. Code that asks for the type
# of its input answers silently, with the branch for a stand-in: whoever runs a traced network
# compares it with the original first.
UNTRACEABLE = (
    fx.proxy.TraceError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,  # what fx says of a module that is no submodule
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


def trace(network: nn.Module) -> fx.GraphModule | None:
    """The graph of a copy of ``network``; None with hooks, which it would lose, or untraceable."""
    if any(map(hooked, network.modules())):
        return None
    copy = deepcopy(network)  # its Python may keep the stand-ins that tracing passes through it
    try:
        with torch.inference_mode():  # as it will run, where a network asks for gradients
            return fx.symbolic_trace(copy)
    except UNTRACEABLE:
        return None


def fold_batchnorm(network: nn.Module) -> tuple[nn.Module, int]:
    """``network`` with every foldable BatchNorm folded, and how many there were.

    With W, b of the layer and gamma, beta, mu, v of the BatchNorm behind it,
    ``W' = W gamma / sqrt(v + e)`` and ``b' = (b - mu) gamma / sqrt(v + e) + beta``. Equal in
    exact arithmetic; rounding differs, so folding belongs to a classifier's identity.

    The original is not touched. A network in training mode, one with hooks (tracing would lose
    them) and one that `torch.fx` cannot trace are returned as they are, with 0.
    """
    modules = list(network.modules())
    there_are_none = not any(type(module) in _NORMS for module in modules)
    if there_are_none or any(module.training for module in modules):
        return network, 0
    if (traced := trace(network)) is None:
        return network, 0
    folded = 0
    uses = Counter(_root(node) for node in traced.graph.nodes if node.op in _READS)
    for node in list(traced.graph.nodes):
        if _foldable(traced, node, uses):
            layer = node.args[0]
            _fold(traced, layer.target, node.target)
            node.replace_all_uses_with(layer)
            traced.graph.erase_node(node)
            traced.delete_submodule(node.target)
            folded += 1
    if not folded:
        return network, 0
    traced.recompile()
    return traced, folded


def _root(node: fx.Node) -> str:
    """The module a node reads: the one it calls, or the one whose tensor it fetches."""
    target = str(node.target)
    return target if node.op == "call_module" else target.rpartition(".")[0]


def _foldable(traced: fx.GraphModule, node: fx.Node, uses: Counter[str]) -> bool:
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
        return False
    norm, layer = traced.get_submodule(str(node.target)), node.args[0]
    if type(norm) not in _NORMS or norm.running_mean is None or uses[_root(node)] > 1:
        return False
    if not isinstance(layer, fx.Node) or layer.op != "call_module":
        return False
    # A layer that is used twice, or whose output is also read elsewhere, must stay as it is.
    if uses[_root(layer)] > 1 or len(layer.users) > 1:
        return False
    kind = type(traced.get_submodule(str(layer.target)))
    if kind is nn.Linear:
        return type(norm) is nn.BatchNorm1d and _flat(traced, layer.args[0])
    return kind is nn.Conv2d and type(norm) is nn.BatchNorm2d


def _flat(traced: fx.GraphModule, source: object) -> bool:
    """Whether ``source`` is known to be ``(B, features)``, so that a linear layer's output is.

    On ``(B, L, features)`` BatchNorm1d would normalise L, which no weight can absorb.
    """
    if not isinstance(source, fx.Node) or source.op != "call_module":
        return False
    module = traced.get_submodule(str(source.target))
    if isinstance(module, nn.Flatten):
        return module.start_dim == 1 and module.end_dim == -1
    return isinstance(module, _KEEP_FLAT) and _flat(traced, source.args[0])


def _fold(traced: fx.GraphModule, layer: object, norm: object) -> None:
    target = traced.get_submodule(str(layer))
    batchnorm = cast(nn.BatchNorm2d, traced.get_submodule(str(norm)))
    fused: nn.Module
    if isinstance(target, nn.Linear):
        fused = fuse_linear_bn_eval(target, batchnorm)
    else:
        fused = fuse_conv_bn_eval(cast(nn.Conv2d, target), batchnorm)
    parent, _, name = str(layer).rpartition(".")
    setattr(traced.get_submodule(parent), name, fused)
