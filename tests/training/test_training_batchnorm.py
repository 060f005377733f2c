"""Batch normalisation by hand beside torch's, up to second derivatives."""

import copy

import pytest
import torch
from torch import nn

from phalanx.losses import Batch, build_loss, losses
from phalanx.models.build import build
from phalanx.training.batchnorm import TwiceBatchNorm2d, differentiate_twice
from phalanx.training.passes import Eager

COUPLED = [name for name in losses.names() if build_loss(name, {"sigma": 0.5}).coupled]


def both(dtype=torch.float64):
    norm = nn.BatchNorm2d(3).to(dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.5, -0.7, 0.0]))
        norm.bias.copy_(torch.tensor([0.1, 0.2, -0.3]))
    ours = copy.deepcopy(norm)
    assert differentiate_twice(ours) == 1
    return norm, ours


def inputs(form, dtype=torch.float64):
    x = torch.randn(4, 3, 5, 2, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=form).requires_grad_()


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_first_and_second_derivatives_are_torchs(form):
    """Of a function of the input gradient, by the input and both parameters; a weight is 0."""
    found = []
    for norm in both():
        x = inputs(form)
        out = norm(x)
        (gradient,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
        value = gradient.sin().sum() + out.square().sum()
        found.append([out, gradient, *torch.autograd.grad(value, [x, norm.weight, norm.bias])])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_differences_agree():
    _, norm = both()
    x = inputs(torch.contiguous_format)

    def gradient(x, weight):
        out = torch.func.functional_call(norm, {"weight": weight}, (x,))
        return torch.autograd.grad(out.exp().sum(), x, create_graph=True)[0]

    weight = norm.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(gradient, (x, weight), atol=1e-6)


def test_buffers_move_alike_and_evaluation_is_torchs():
    plain, ours = both(torch.float32)
    x = inputs(torch.contiguous_format, torch.float32).detach()
    for _ in range(3):
        assert torch.equal(plain(x), ours(x))
    for one, other in zip(plain.buffers(), ours.buffers(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(plain.eval()(x), ours.eval()(x))
    assert ours.state_dict().keys() == plain.state_dict().keys()


def test_what_it_cannot_do_is_refused():
    _, norm = both()
    x = inputs(torch.contiguous_format)
    (by_weight,) = torch.autograd.grad(norm(x).exp().sum(), norm.weight, create_graph=True)
    with pytest.raises(NotImplementedError):
        by_weight.sum().backward()
    unusual = nn.Sequential(nn.BatchNorm2d(2, momentum=None), nn.BatchNorm2d(2, affine=False))
    assert differentiate_twice(unusual) == 0


@pytest.mark.parametrize(("loss", "ours"), [("drt", 21), ("consistency", 0)])
def test_it_stands_where_input_gradients_are_looked_at(loss, ours):
    members = [build("resnet20", 10, (3, 16, 16), key=k) for k in range(2)]
    Eager(build_loss(loss, {"sigma": 0.5}), members, torch.device("cpu"), "fp32")
    for member in members:
        assert sum(isinstance(m, TwiceBatchNorm2d) for m in member.modules()) == ours


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "drt" else [pytest.mark.slow]) for name in COUPLED],
)
def test_coupled_losses_have_the_same_gradients(name):
    draw = torch.Generator().manual_seed(1)
    x, noise = torch.rand(2, 8, 3, 16, 16, generator=draw).double()
    results = []
    for twice in (False, True):
        members = [build("resnet20", 10, (3, 16, 16), key=k).double().train() for k in range(2)]
        for member in members:  # right everywhere: DRT looks at gradients there alone
            member.fc.bias.data[3] += 2
        if twice:
            assert all(differentiate_twice(member) == 21 for member in members)
        torch.manual_seed(0)
        output = build_loss(name, {"sigma": 0.25})(
            members, Batch(x, torch.full((8,), 3), lambda _: noise)
        )
        assert name != "drt" or output.metrics["gradient_diversity"] > 0
        output.loss.backward()
        results.append([output.loss.detach(), *(p.grad for m in members for p in m.parameters())])
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
