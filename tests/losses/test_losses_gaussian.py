import numpy as np
import pytest
import torch
from torch import nn

from phalanx.errors import ConfigurationError, ParameterError
from phalanx.losses import Batch, build_loss, losses


def batch(rows: int = 7) -> Batch:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(rows, 1, 4, 4, generator=generator)
    y = torch.randint(0, 3, (rows,), generator=generator)
    draws = torch.randn(4, *x.shape, generator=generator)
    return Batch(x, y, lambda draw: draws[draw])


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def expected(member: nn.Module, given: Batch, sigma: float) -> float:
    """Cross entropy by numpy in float64, from the definition."""
    weight, bias = (p.detach().double().numpy() for p in member[1].parameters())
    noisy = (given.x + sigma * given.noise(0)).flatten(1).double().numpy()
    logits = noisy @ weight.T + bias
    log_sum = np.log(np.exp(logits).sum(1))
    return float((log_sum - logits[np.arange(len(logits)), given.y.numpy()]).mean())


@pytest.mark.parametrize("sigma", [0.0, 0.25, 2.0])
def test_it_is_the_cross_entropy_of_the_noisy_images(sigma):
    given, member = batch(), network()
    output = build_loss("gaussian", {"sigma": sigma})([member], given)
    assert output.loss.item() == pytest.approx(expected(member, given, sigma), rel=1e-5)
    assert output.logits.shape == (1, 7, 3)
    assert not output.logits.requires_grad


def test_of_several_members_it_is_the_mean():
    given, members = batch(), [network(0), network(1)]
    output = build_loss("gaussian", {"sigma": 0.5})(members, given)
    mean = sum(expected(member, given, 0.5) for member in members) / 2
    assert output.loss.item() == pytest.approx(mean, rel=1e-5)
    output.loss.backward()
    assert all(p.grad is not None for member in members for p in member.parameters())


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"sigma": -0.1}, "loss.sigma"),
        ({"sigma": float("nan")}, "loss.sigma"),
        ({"sigma": "loud"}, "loss.sigma"),
        ({}, "loss.sigma"),
        ({"sigma": 0.5, "colour": 1}, "loss.colour"),
    ],
)
def test_options_that_do_not_fit_are_named(options, field):
    with pytest.raises(ConfigurationError, match=field):
        build_loss("gaussian", options)


def test_an_unknown_loss_lists_the_known_ones():
    with pytest.raises(ParameterError, match="gaussian"):
        build_loss("gausian", {"sigma": 0.5})


@pytest.mark.parametrize("name", losses.names())
def test_every_registered_loss_is_a_differentiable_scalar_and_repeats_itself(name):
    loss = build_loss(name, {"sigma": 0.5})
    members = [network(0), network(1)] if loss.coupled else [network(0)]
    first, second = loss(members, batch()), loss(members, batch())
    assert first.loss.shape == ()
    assert torch.equal(first.loss, second.loss)
    first.loss.backward()
    assert all(torch.isfinite(p.grad).all() for m in members for p in m.parameters())
