import numpy as np
import pytest
from losses_helpers import batch, linear
from torch import nn

from phalanx.errors import ParameterError
from phalanx.losses import Batch, build_loss


def expected(member: nn.Module, given: Batch, sigma: float) -> float:
    """Cross entropy by numpy in float64, from the definition."""
    weight, bias = (p.detach().double().numpy() for p in member[1].parameters())
    noisy = (given.x + sigma * given.noise(0)).flatten(1).double().numpy()
    logits = noisy @ weight.T + bias
    log_sum = np.log(np.exp(logits).sum(1))
    return float((log_sum - logits[np.arange(len(logits)), given.y.numpy()]).mean())


@pytest.mark.parametrize("sigma", [0.0, 0.25, 2.0])
def test_it_is_the_cross_entropy_of_the_noisy_images(sigma):
    given, member = batch(), linear()
    output = build_loss("gaussian", {"sigma": sigma})([member], given)
    assert output.loss.item() == pytest.approx(expected(member, given, sigma), rel=1e-5)
    assert output.logits.shape == (1, 7, 3)
    assert not output.logits.requires_grad


def test_of_several_members_it_is_the_mean():
    given, members = batch(), [linear(0), linear(1)]
    output = build_loss("gaussian", {"sigma": 0.5})(members, given)
    mean = sum(expected(member, given, 0.5) for member in members) / 2
    assert output.loss.item() == pytest.approx(mean, rel=1e-5)
    output.loss.backward()
    assert all(p.grad is not None for member in members for p in member.parameters())


def test_an_unknown_loss_lists_the_known_ones():
    with pytest.raises(ParameterError, match="gaussian"):
        build_loss("gausian", {"sigma": 0.5})
