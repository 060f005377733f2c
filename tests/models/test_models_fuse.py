"""Fused layers compute what the layers they replace compute, and only where nobody else looks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from phalanx.models.build import build, networks
from phalanx.models.fold import fold_batchnorm
from phalanx.models.fuse import can_fuse, fuse_pointwise
from phalanx.models.resolve import usual

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    not can_fuse(CPU, torch.float32), reason="this torch was built without oneDNN"
)


def layer() -> nn.Conv2d:
    return nn.Conv2d(2, 2, 3, padding=1)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "name", [n for n in networks.names() if n not in ("resnet50", "resnet110")]
)
def test_networks_keep_their_values(name, form):
    classes, shape = usual(name)
    network, _ = fold_batchnorm(build(name, classes=classes, shape=shape).eval())
    fused, count = fuse_pointwise(network)
    assert count > 0
    assert not any(type(part) is nn.ReLU for _, part in fused.named_children())
    x = torch.rand(3, *shape)
    x = x.contiguous(memory_format=form) if len(shape) == 3 else x
    before = x.clone()
    with torch.inference_mode():
        torch.testing.assert_close(fused(x), network(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(x, before)


class Block(nn.Module):
    """A residual block whose parts are put together as a subclass says."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.relu = layer(), layer(), nn.ReLU(inplace=True)


class Plain(Block):
    def forward(self, x):
        return self.relu(self.second(self.first(x)) + x)


class Reversed(Block):
    def forward(self, x):
        return torch.relu(x + self.second(self.first(x)))


class InPlace(Block):
    def forward(self, x):
        out = self.second(self.first(x))
        out += x
        return relu(out, inplace=True)


class TwoLayers(Block):
    def forward(self, x):
        return self.relu(torch.add(self.first(x), self.second(x)))


class LayerTwice(Block):
    def forward(self, x):
        return self.relu(self.first(self.relu(self.first(x))))


class Flattens(Block):
    def __init__(self):
        super().__init__()
        self.flatten, self.out = nn.Flatten(), nn.Linear(2 * 7 * 7, 5)

    def forward(self, x):
        return self.relu(self.out(self.flatten(self.relu(self.first(x)))))


class FlattensSum(Flattens):
    def forward(self, x):
        flat = self.flatten(self.first(x))
        return self.relu(self.out(flat)) + flat.sum(1, keepdim=True)


class FlattensInput(Flattens):
    def forward(self, x):
        return self.relu(self.out(self.flatten(x)))


class Grouped(Block):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, dilation=2, padding=(1, 2), groups=2, bias=False)

    def forward(self, x):
        return self.relu(self.first(x))


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        *[(Plain, 1), (Reversed, 1), (InPlace, 1), (TwoLayers, 1), (LayerTwice, 2), (Grouped, 1)],
        *[(Flattens, 2), (FlattensSum, 1), (FlattensInput, 1)],
    ],
)
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_blocks_keep_their_values(kind, count, form):
    network, x = kind().eval(), torch.randn(4, 2, 7, 7).contiguous(memory_format=form)
    fused, found = fuse_pointwise(network)
    assert found == count
    with torch.inference_mode():
        torch.testing.assert_close(fused(x.clone()), network(x.clone()), rtol=1e-5, atol=1e-5)


class ReadAgain(Block):
    def forward(self, x):
        out = self.first(x)
        return self.relu(out) + out


class SumReadAgain(Block):
    def forward(self, x):
        total = self.first(x) + x
        return torch.relu(total) + total


class AddsNumber(Block):
    def forward(self, x):
        return self.relu(self.first(x) + 1.0)


class Scales(Block):
    def forward(self, x):
        return self.relu(torch.add(self.first(x), x, alpha=2))


class ToItself(Block):
    def forward(self, x):
        out = self.first(x)
        return self.relu(out + out)


class WritesToShortcut(Block):
    def forward(self, x):
        y = x * 1.0
        y += self.first(x)
        return torch.relu(y) + y


class Reflects(Block):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")

    def forward(self, x):
        return self.relu(self.first(x))


class Leaky(Block):
    def forward(self, x):
        return nn.functional.leaky_relu(self.first(x))


class Hooked(Block):
    def __init__(self):
        super().__init__()
        self.first.register_forward_hook(lambda module, inputs, output: output * 2)

    def forward(self, x):
        return self.relu(self.first(x))


class Branches(Block):
    def forward(self, x):
        return self.relu(self.first(x)) if x.sum() > 0 else x


@pytest.mark.parametrize(
    "kind",
    [
        *(ReadAgain, SumReadAgain, AddsNumber, Scales, ToItself, WritesToShortcut, Reflects),
        *(Leaky, Hooked, Branches),
    ],
)
def test_what_others_read_or_no_kernel_computes_is_left_alone(kind):
    network = kind().eval()
    assert fuse_pointwise(network) == (network, 0)


class Wide(Block):
    """Both fused convolutions and the fused linear layer; 8x8 inputs."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(2 * 8 * 8, 16), nn.Linear(16, 3)

    def forward(self, x):
        h = self.relu(self.second(self.relu(self.first(x))) + x)
        return self.out(self.relu(self.hidden(h.flatten(1))))


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 3e38])
def test_what_is_not_finite_stays_so(dtype, form, broken):
    """An overflow inside the network must reach the logits, where its vote is refused."""
    if not can_fuse(CPU, dtype):
        pytest.skip(f"this processor has no kernels for {dtype}")
    network = Wide().eval().to(dtype)
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -5, 5)
    fused, count = fuse_pointwise(network)
    assert count == 3
    x = torch.randn(4, 2, 8, 8, dtype=dtype)
    x[1, 0, 3, 3] = broken
    with torch.inference_mode():
        expected = network(x.contiguous(memory_format=form))
        found = fused(x.contiguous(memory_format=form))
    assert not torch.isfinite(expected[1]).any()
    assert torch.equal(torch.isfinite(found), torch.isfinite(expected))


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 8, 1), nn.Linear(3, 8)], ids=type)
def test_the_fused_relu_of_nan_is_nan(layer):
    fused, _ = fuse_pointwise(nn.Sequential(layer, nn.ReLU()).eval())
    shape = (2, 3, 4, 4) if isinstance(layer, nn.Conv2d) else (2, 3)
    with torch.inference_mode():
        assert fused(torch.full(shape, torch.nan)).isnan().all()


def test_the_original_is_not_touched():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    fused, _ = fuse_pointwise(network)
    x = torch.randn(2, 4)
    expected = network(x)
    with torch.no_grad():
        next(fused.parameters()).zero_()
    assert torch.equal(network(x), expected)


def test_only_a_cpu_has_the_kernels():
    assert not can_fuse(torch.device("cuda"), torch.float32)
