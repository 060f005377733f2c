"""Buffers are reused only where nobody else reads them, and no value changes."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from phalanx.models.build import build, networks
from phalanx.models.inplace import reuse_buffers
from phalanx.models.resolve import usual


@pytest.mark.parametrize(
    "name", [n for n in networks.names() if n not in ("resnet50", "resnet110")]
)
def test_values_are_bit_identical(name):
    classes, shape = usual(name)
    network = build(name, classes=classes, shape=shape).eval()
    reused = deepcopy(network)
    reuse_buffers(reused)
    x = torch.rand(3, *shape)
    before = x.clone()
    with torch.inference_mode():
        assert torch.equal(reused(x), network(x))
    assert torch.equal(x, before)


def test_chains_are_reused():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2), nn.ReLU())
    assert reuse_buffers(network.eval()) == 2


def test_an_input_or_a_shared_output_is_never_overwritten():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.first, self.second = nn.Linear(4, 4), nn.ReLU(), nn.ReLU()

        def forward(self, x):
            y = self.layer(self.second(x))
            return self.first(y) + y

    network = Shared().eval()
    assert reuse_buffers(network) == 0


def test_networks_with_hooks_are_left_alone():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    network[0].register_forward_hook(lambda module, inputs, output: None)
    assert reuse_buffers(network) == 0


def test_an_activation_used_twice_and_untraceable_code_are_left_alone():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()

        def forward(self, x):
            return self.relu(self.b(self.relu(self.a(x))))

    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    assert reuse_buffers(Twice().eval()) == 0
    assert reuse_buffers(Branching().eval()) == 0
