"""Max pooling by maxima answers the bits of torch's, and leaves alone what it does not cover."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phalanx.models.pool import pool_by_maxima


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [1, 2, 3, (2, 3), (3, 1)])
@pytest.mark.parametrize("shape", [(2, 6, 12, 12), (1, 3, 7, 9), (2, 1, 5, 6)])
def test_the_bits_are_those_of_torch(shape, size, form):
    x = torch.randn(shape).contiguous(memory_format=form)
    before = x.clone()
    layer = nn.MaxPool2d(size)
    pooled, count = pool_by_maxima(layer)
    assert count == 1
    assert torch.equal(pooled(x), layer(x))
    assert torch.equal(x, before)


def test_what_is_no_number_stays():
    x = torch.randn(1, 1, 4, 4)
    x[0, 0, 0, 1], x[0, 0, 3, 3], x[0, 0, 0, 3] = torch.nan, torch.inf, -torch.inf
    layer = nn.MaxPool2d(2)
    torch.testing.assert_close(
        pool_by_maxima(layer)[0](x), layer(x), equal_nan=True, rtol=0, atol=0
    )


class Own(nn.MaxPool2d):
    pass


def hooked() -> nn.MaxPool2d:
    layer = nn.MaxPool2d(2)
    layer.register_forward_hook(lambda *args: None)
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(3, stride=2),
        nn.MaxPool2d(2, padding=1),
        nn.MaxPool2d(2, dilation=2),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d(2, return_indices=True),
        nn.AvgPool2d(2),
        Own(2),
        hooked(),
    ],
    ids=lambda layer: repr(layer)[:40],
)
def test_other_layers_stay(layer):
    network = nn.Sequential(nn.ReLU(), layer)
    assert pool_by_maxima(network) == (network, 0)


def test_the_original_is_not_touched_and_a_layer_used_twice_stays_one():
    layer = nn.MaxPool2d(2)
    network = nn.Sequential(layer, nn.Sequential(layer))
    pooled, count = pool_by_maxima(network)
    assert count == 1
    assert pooled[0] is pooled[1][0]
    assert type(network[0]) is nn.MaxPool2d
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(pooled(x), network(x))
