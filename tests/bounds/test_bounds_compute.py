"""What is refused, and what a caller gets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from bounds_nets import Net
from torch import nn

from phalanx.bounds.front import compute, margins
from phalanx.bounds.options import Options
from phalanx.bounds.prepare import prepare
from phalanx.bounds.region import Region, ball, box
from phalanx.bounds.sparse import Cuts
from phalanx.errors import DataError, GraphError, NonFiniteError, ParameterError, PhalanxError
from phalanx.graph.build import Builder
from phalanx.graph.from_torch import from_torch
from phalanx.models.model import InputSpec, Model
from phalanx.specs.threat import Threat


def model() -> Model:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    return Model(network, InputSpec(mean=(0.5,), std=(0.25,), shape=(3, 2, 2)), 3)


def threat(norm: str = "linf", eps: float = 0.05) -> SimpleNamespace:
    return SimpleNamespace(norm=norm, eps=eps, low=0.0, high=1.0)


X = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))


def test_margins_of_a_model_in_input_units() -> None:
    net = model()
    labels = net(X).argmax(1)
    rows = margins(labels, 3)
    found = compute(net, threat(), X, rows=rows)
    assert found.lower.shape == (4, 2)
    assert (found.upper, found.arithmetic) == (None, "real")
    moved = (X + 0.05 * torch.randn(200, *X.shape).sign()).clamp(0, 1)
    logits = net(moved.flatten(0, 1)).reshape(200, 4, 3)
    assert ((logits.unsqueeze(2) * rows).sum(3) >= found.lower - 1e-5).all()
    shifted = compute(net, threat(), X, rows=rows, offset=torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(shifted.lower, found.lower + torch.tensor([1.0, 2.0]))


def test_a_threat_of_the_attacks_is_a_threat_here() -> None:
    net = model()
    for norm in ("linf", "l2", "l1"):
        mine = compute(net, threat(norm, 0.1), X)
        assert torch.equal(compute(net, Threat(norm, 0.1), X).lower, mine.lower)


@pytest.mark.parametrize("method", ["interval", "crown", "alpha-crown", "zonotope"])
def test_results_do_not_depend_on_company(method: str) -> None:
    net, options = model().double(), Options(iterations=5)
    net.mean, net.std = net.mean.double(), net.std.double()
    x = X.double()
    together = compute(net, threat(eps=0.2), x, method=method, options=options)
    alone = [compute(net, threat(eps=0.2), row[None], method=method, options=options) for row in x]
    torch.testing.assert_close(together.lower, torch.cat([one.lower for one in alone]))


def test_leaving_out_what_is_off_changes_nothing(monkeypatch) -> None:
    torch.manual_seed(1)
    layers = [nn.Linear(12, 80), nn.ReLU(), nn.Linear(80, 80), nn.ReLU(), nn.Linear(80, 80)]
    network = nn.Sequential(nn.Flatten(), *layers, nn.ReLU(), nn.Linear(80, 3)).double().eval()
    for layer in network[1::2]:
        layer.bias.data -= 0.2  # so that many are off
    graph, region = from_torch(network, (3, 2, 2)), ball(threat(), X.double())
    cut = compute(graph, region)
    monkeypatch.setattr(Cuts, "entries", lambda *_: None)
    monkeypatch.setattr("phalanx.bounds.engine.WORTH_A_PASS", 1 << 60)
    torch.testing.assert_close(compute(graph, region).lower, cut.lower)


def test_a_ball_is_inside_its_box() -> None:
    net = model()
    wide = compute(net, threat("linf"), X).lower
    assert (compute(net, threat("l2"), X).lower >= wide - 1e-6).all()
    assert (compute(net, threat("l1"), X).lower >= wide - 1e-6).all()


NAN = float("nan")


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (ParameterError, lambda: compute(model(), threat(eps=-1), X)),
        (ParameterError, lambda: compute(model(), threat(eps=NAN), X)),
        (ParameterError, lambda: compute(model(), threat("l3"), X)),
        (ParameterError, lambda: compute(model(), threat(), X, method="magic")),
        (ParameterError, lambda: compute(model(), threat())),
        (ParameterError, lambda: compute(model(), ball(threat(), X), X)),
        (ParameterError, lambda: Region(X, X, X, "l2", NAN)),
        (DataError, lambda: compute(model(), threat(), X * NAN)),
        (DataError, lambda: compute(model(), threat(), X + 1)),
        (DataError, lambda: box(X, X - 0.1)),
        (DataError, lambda: box(X, X / 0)),
        (DataError, lambda: compute(model(), threat(), X, rows=torch.zeros(0, 3))),
        (DataError, lambda: compute(model(), threat(), X, rows=torch.zeros(2, 4))),
        (DataError, lambda: compute(model(), threat(), X, rows=torch.full((1, 3), NAN))),
        (PhalanxError, lambda: compute(model(), threat(), X.reshape(4, 12))),
        (DataError, lambda: margins(torch.tensor([3]), 3)),
    ],
)
def test_refusals(error: type[PhalanxError], call) -> None:
    with pytest.raises(error):
        call()


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    net = model()
    net.network[1].weight.data[0, 0] = value
    with pytest.raises(NonFiniteError, match="linear"):
        compute(net, threat(), X, method="interval")


def test_an_operator_without_a_row_is_named() -> None:
    builder = Builder((3,))
    graph = builder.graph(builder.add("relu", [builder.input], name="odd"))
    strange = type(graph)(
        (graph.nodes[0], type(graph.nodes[0])("odd", "erf", ("input",), (3,))), "odd"
    )
    with pytest.raises(GraphError, match="'odd' \\(erf\\) cannot be bounded"):
        compute(strange, box(torch.zeros(1, 3), torch.ones(1, 3)))


def test_windows_of_padding_alone_are_refused() -> None:
    """Dilated ones around a single number; of two numbers every window sees one."""
    steps = {"kernel": (2,), "stride": (1,), "padding": (1,), "dilation": (2,), "ceil_mode": False}
    graph = Net(0, (1, 1)).add("max-pool", **steps).graph()
    with pytest.raises(GraphError, match="nothing but padding"):
        prepare(graph)
    prepare(Net(0, (1, 2)).add("max-pool", **steps).graph())
