"""Modules read by `torch.export` compute what they compute themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from phalanx.errors import GraphError, ModelError
from phalanx.graph.from_torch import from_torch
from phalanx.graph.ir import Graph, Node
from phalanx.graph.run import GraphNetwork, run
from phalanx.graph.simplify import simplify
from phalanx.models.build import build
from phalanx.models.digest import weights_digest


class Transformer(nn.Module):
    """One block over a class token and four patches of eight numbers, batch first throughout."""

    def __init__(self, width: int = 12, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.embed, self.mixed = nn.Linear(8, width), nn.Linear(width, 3 * width)
        self.out, self.head = nn.Linear(width, width), nn.Linear(width, 5)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.body = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.place = nn.Parameter(torch.randn(1, 5, width))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        x = torch.cat([self.token.expand(rows, -1, -1), self.embed(x.view(rows, 4, 8))], 1)
        x = x + self.place
        parts = self.mixed(self.norms[0](x)).chunk(3, -1)
        q, k, v = (part.view(rows, 5, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, 5, -1))
        return self.head((x + self.body(self.norms[1](x))).mean(1))


class Oddities(nn.Module):
    """What the literature's networks do not use, in one forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Sequential(
            nn.ConvTranspose2d(2, 3, 3, stride=2), nn.BatchNorm2d(3), nn.LeakyReLU(0.1),
            nn.AvgPool2d(2), nn.Upsample(scale_factor=2), nn.Dropout(0.5), nn.Hardtanh(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.deep(x)
        y = torch.stack([y[:, 0], (2 - y[:, 1]) / (1 + y[:, 2].square())], 1)
        y = torch.maximum(y, -y) * y.sigmoid()
        y = nn.functional.pad(y, (1, 0, 2, 1), value=0.5).pow(3).clamp(max=0.7)
        return (
            y.sum((1, 2))
            - torch.minimum(y.mean((1, 2)), y[:, 1, ::2].sum(1))
            + y.exp().mean((1, 2))
        )


def agrees(module: nn.Module, shape: tuple[int, ...]) -> Graph:
    module.eval()
    graph = from_torch(module, shape)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(x)
    for found in (graph, simplify(graph)):
        torch.testing.assert_close(run(found, x), expected, rtol=1e-5, atol=1e-5)
    return graph


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mlp", (1, 8, 8)), ("lenet5", (1, 28, 28)), ("mnist-cnn", (1, 28, 28)),
     pytest.param("resnet20", (3, 32, 32), marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_literatures_networks(name: str, shape: tuple[int, ...]) -> None:
    agrees(build(name, 10, shape, key=1), shape)


def test_a_residual_network_loses_its_batch_normalisation() -> None:
    network = build("resnet20", 10, (3, 8, 8), key=1)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    folded = simplify(agrees(network, (3, 8, 8)))
    assert "scale" not in {node.op for node in folded}
    assert {"conv", "linear", "relu", "add"} <= {node.op for node in folded}


def test_a_transformer() -> None:
    agrees(Transformer(), (32,))


def test_oddities() -> None:
    agrees(Oddities(), (2, 4, 4))


def test_gradients_flow_to_the_input() -> None:
    graph = from_torch(build("mlp", 3, (1, 4, 4), key=0).eval(), (1, 4, 4))
    x = torch.randn(2, 1, 4, 4, requires_grad=True)
    run(graph, x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0


def test_a_graph_as_a_module_keeps_its_weights_where_torch_finds_them() -> None:
    graph = from_torch(build("mlp", 3, (1, 4, 4), key=0).eval(), (1, 4, 4))
    one, other = GraphNetwork(graph), GraphNetwork(graph)
    assert weights_digest(one) == weights_digest(other)
    next(other.parameters()).data[0] += 1
    assert weights_digest(one) != weights_digest(other)
    x = torch.rand(2, 1, 4, 4)  # positive, so that the raised unit is on
    assert not torch.equal(one(x), other(x))
    assert one.double()(x.double()).dtype == torch.float64


class Mixes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, 2) @ x.new_ones(2, 3)


class Centres(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.erfinv(x)


class Sizes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(2 * x.shape[0], -1)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Sizes(), "batch"),
        (Mixes(), "batch"),
        (Centres(), "batch"),
        (Unknown(), "erfinv.*have bounds"),
    ],
)
def test_refusals_name_the_operator(module: nn.Module, says: str) -> None:
    with pytest.raises(GraphError, match=says):
        from_torch(module.eval(), (4,))


def test_a_module_in_training_mode_is_refused() -> None:
    with pytest.raises(GraphError, match="training mode"):
        from_torch(nn.Dropout(), (4,))


def test_code_that_fails_is_the_users_error() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no")

    with pytest.raises(ModelError, match=r"torch\.export"):
        from_torch(Fails().eval(), (4,))


def test_graphs_that_are_none_are_refused() -> None:
    x = Node("x", "input", (), (3,))
    for nodes, output in (
        ((), "x"),
        ((x, x), "x"),
        ((x, Node("y", "relu", ("z",), (3,)), Node("z", "relu", ("y",), (3,))), "y"),
        ((x,), "y"),
    ):
        with pytest.raises(GraphError):
            Graph(nodes, output)
