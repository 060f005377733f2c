"""A row's logits are the same bits at every place of a batch, also for rows of odd length."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phalanx.models.align import AlignedLinear, align_rows
from phalanx.models.model import InputSpec, Model
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.tuning import reproducible

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("features", [1, 5, 13, 30, 57, 84])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_every_place_of_a_batch_rounds_alike(features, classes, precision):
    model = Model(nn.Linear(features, classes).eval(), InputSpec((-4.0, 5.0)), classes)
    for batch in (32, 100, 256):
        assert reproducible(MemberBank([model], Layout(precision), CPU), (features,), batch)


@pytest.mark.parametrize("hidden", [7, 50])
def test_layers_behind_others_too(hidden):
    network = nn.Sequential(nn.Linear(30, hidden), nn.ReLU(), nn.Linear(hidden, 3))
    model = Model(network.eval(), InputSpec(), 3)
    assert reproducible(MemberBank([model], Layout(), CPU), (30,), 100)
    assert reproducible(MemberBank([model], Layout(fuse=False), CPU), (30,), 100)


class Shared(nn.Module):
    """A layer that is called twice, and one whose weights are read past it."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(13, 13), nn.Linear(13, 3)
        self.same = self.layer

    def forward(self, x):
        return self.head(self.same(self.layer(x))) + self.head.weight.sum()


@pytest.mark.parametrize(
    ("network", "aligned"),
    [
        (nn.Linear(13, 3), 1),
        (nn.Linear(13, 16), 0),
        (nn.Linear(32, 3), 0),
        (nn.Linear(13, 3, bias=False), 1),
        (nn.Sequential(nn.Linear(13, 5), nn.Tanh(), nn.Sequential(nn.Linear(5, 3))), 3),
        (Shared(), 2),
        (nn.Bilinear(2, 3, 4), 0),
    ],
)
def test_it_computes_what_the_layers_compute(network, aligned):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    copy, found = align_rows(network.eval())
    assert found == aligned
    assert not any(isinstance(part, AlignedLinear) for part in network.modules())
    after = copy.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    if not isinstance(network, nn.Bilinear):
        first = next(part for part in network.modules() if isinstance(part, nn.Linear))
        x = torch.randn(6, first.in_features)
        assert torch.allclose(copy(x), network(x), atol=1e-6)
        assert torch.allclose(copy(x[None]), network(x[None]), atol=1e-6)


def test_what_it_does_not_understand_stays():
    hooked = nn.Linear(13, 3)
    hooked.register_forward_hook(lambda module, inputs, output: output * 2)
    weighted = nn.utils.parametrizations.weight_norm(nn.Linear(13, 3))
    assert align_rows(nn.Sequential(hooked, weighted))[1] == 0


def test_nan_and_infinity_still_reach_the_logits():
    copy, _ = align_rows(nn.Linear(13, 3))
    x = torch.zeros(2, 13)
    x[0, 12], x[1, 0] = torch.nan, torch.inf
    assert not torch.isfinite(copy(x)).any()
