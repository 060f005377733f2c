"""Folding changes rounding and nothing else, and stays away from what it cannot see."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phalanx.models.build import build
from phalanx.models.digest import weights_digest
from phalanx.models.fold import fold_batchnorm


def settled(network: nn.Module, *shape: int) -> nn.Module:
    """The network with statistics of its own, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(module.bias, -1, 1, generator=generator)
    for _ in range(2):
        network(torch.rand(16, *shape, generator=generator))
    return network.eval()


def gap(one, other, *shape):
    x = torch.rand(8, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a, b = one(x), other(x)
    return float((a - b).abs().max() / a.abs().max())


@pytest.mark.parametrize(("name", "norms"), [("resnet20", 21), ("resnet18", 20)])
def test_residual_networks(name, norms):
    network = settled(build(name, 10, (3, 16, 16)), 3, 16, 16)
    before = weights_digest(network)
    folded, count = fold_batchnorm(network)
    assert count == norms
    assert gap(network, folded, 3, 16, 16) < 1e-5
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    assert weights_digest(network) == before


def test_linear_layers_on_flat_inputs():
    layers = [nn.Flatten(), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)]
    network = settled(nn.Sequential(*layers, nn.BatchNorm1d(3)), 4)
    folded, count = fold_batchnorm(network)
    assert count == 2
    assert gap(network, folded, 4) < 1e-5


class Shared(nn.Module):
    """One convolution read twice, by its BatchNorm and past it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x):
        y = self.conv(x)
        return (self.norm(y) + y).flatten(1)


class Reads(Shared):
    """The convolution's weight is read elsewhere."""

    def forward(self, x):
        return self.norm(self.conv(x)).flatten(1) + self.conv.weight.sum()


class Branches(Shared):
    """Control flow that depends on values cannot be traced."""

    def forward(self, x):
        y = self.norm(self.conv(x)).flatten(1)
        return y if x.sum() > 0 else -y


def hooked():
    network = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), nn.Flatten())
    network[0].register_forward_hook(lambda module, inputs, output: output * 2)
    return network


class Rows(nn.Module):
    """BatchNorm1d over the positions of (B, positions, features)."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.linear(x.squeeze(1))).flatten(1)


@pytest.mark.parametrize("make", [Shared, Reads, Branches, hooked, Rows])
def test_what_is_left_alone(make):
    network = settled(make(), 1, 3, 3)
    assert fold_batchnorm(network) == (network, 0)


def test_training_mode_is_left_alone():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    assert fold_batchnorm(network) == (network, 0)
