"""auto_LiRPA's bounds of the same margins, where it is installed (it pins older versions of torch).

pip install --no-deps auto_LiRPA, into an environment of its own, then bounds.py --peer
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from phalanx.graph.ir import INPUT, Graph, Node

METHODS = {"crown": "CROWN", "alpha-crown/full": "CROWN-Optimized"}


class Plain(nn.Module):
    """A graph of linear layers, convolutions, ReLUs, sums and flattenings as plain torch layers."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.layers = nn.ModuleList([_layer(node) for node in graph])

    def forward(self, x: Tensor) -> Tensor:
        """Layer by layer."""
        values = {self.graph.input.name: x}
        for node, layer in zip(self.graph, self.layers, strict=True):
            if node.op == "add":
                values[node.name] = values[node.inputs[0]] + values[node.inputs[1]]
            elif node.op != INPUT:
                values[node.name] = layer(values[node.inputs[0]])
        return values[self.graph.output]


def _layer(node: Node) -> nn.Module:
    if node.op == "relu":
        return nn.ReLU()
    if node.op == "reshape":
        return nn.Flatten()
    if node.op not in ("linear", "conv"):
        return nn.Identity()
    weight, bias = node.tensors["weight"], node.tensors.get("bias")
    if node.op == "linear":
        layer: nn.Linear | nn.Conv2d = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    else:
        a = node.attributes
        layer = nn.Conv2d(
            weight.shape[1], weight.shape[0], (weight.shape[2], weight.shape[3]),
            a["stride"], a["padding"], bias=bias is not None,
        )  # fmt: skip
    layer.weight.data = weight.clone()
    if bias is not None and layer.bias is not None:
        layer.bias.data = bias.clone()
    return layer


def bounder(
    graph: Graph, sides: tuple[Tensor, Tensor], rows: Tensor, method: str
) -> Callable[[], Tensor]:
    """What computes the lower margins; 20 iterations."""
    import torch._dynamo  # its optimiser would load it within the first timed step
    from auto_LiRPA import BoundedModule, BoundedTensor
    from auto_LiRPA.perturbations import PerturbationLpNorm

    low, high = sides
    x = (low + high) / 2
    options = {"optimize_bound_args": {"iteration": 20, "lr_alpha": 0.1}}
    net = Plain(graph).eval()
    bounded = BoundedModule(net, torch.empty_like(x), bound_opts=options, device="cpu")
    ball = BoundedTensor(x, PerturbationLpNorm(norm=math.inf, x_L=low, x_U=high))

    def lower() -> Tensor:
        found: Tensor = bounded.compute_bounds(
            x=(ball,), C=rows, method=METHODS[method], bound_upper=False
        )[0]
        return found.detach()

    return lower
