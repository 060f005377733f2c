"""Activations that may overwrite their input: the same values with half the memory traffic."""

from __future__ import annotations

from collections import Counter

from torch import fx, nn

from phalanx.models.fold import trace

_FRESH = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d)
"""Layers whose output is a tensor of their own, never a view of something still needed."""


def reuse_buffers(network: nn.Module) -> int:
    """Let each ReLU that alone reads a layer's output overwrite it; returns how many do.

    Values are bit-identical, so this is no part of a classifier's identity. The network is
    changed in place: give it a copy. One that `torch.fx` cannot trace is left alone, and one
    with hooks too, since a hook may keep what would be overwritten.
    """
    if (traced := trace(network)) is None:
        return 0
    graph = traced.graph
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    changed = 0
    for node in graph.nodes:
        if node.op != "call_module" or calls[node.target] > 1:
            continue
        part = network.get_submodule(node.target)
        if type(part) is nn.ReLU and not part.inplace and _alone_on_fresh(node, network):
            part.inplace = True
            changed += 1
    return changed


def _alone_on_fresh(node: fx.Node, network: nn.Module) -> bool:
    source = node.args[0]
    return (
        isinstance(source, fx.Node)
        and source.op == "call_module"
        and len(source.users) == 1
        and isinstance(network.get_submodule(str(source.target)), _FRESH)
    )
