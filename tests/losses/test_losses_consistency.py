"""Consistency against the formula in numpy, float64."""

import numpy as np
import pytest
import torch
from losses_helpers import batch, convolutional, linear, part

from phalanx.errors import ConfigurationError
from phalanx.losses import build_loss
from phalanx.losses.consistency import disagreement


def probabilities(member, given, sigma, draws) -> np.ndarray:
    """``(m, B, C)`` from the weights themselves."""
    weight, bias = (p.detach().double().numpy() for p in member[1].parameters())
    noisy = [(given.x + sigma * given.noise(i)).flatten(1).double().numpy() for i in range(draws)]
    scores = np.exp(np.stack(noisy) @ weight.T + bias)
    return scores / scores.sum(-1, keepdims=True)


@pytest.mark.parametrize(("draws", "lbd", "eta"), [(2, 10.0, 0.5), (3, 0.0, 2.0), (4, 1.5, 0.0)])
def test_it_is_the_published_formula(draws, lbd, eta):
    given, member = batch(), linear()
    options = {"sigma": 0.7, "num_noise": draws, "lbd": lbd, "eta": eta}
    output = build_loss("consistency", options)([member], given)
    each = probabilities(member, given, 0.7, draws)
    mean = each.mean(0)
    rows = np.arange(len(given.y))
    cross_entropy = -np.log(each[:, rows, given.y.numpy()]).mean()
    divergence = (mean * np.log(mean / each)).sum(-1).mean()
    entropy = -(mean * np.log(mean)).sum(-1).mean()
    expected = cross_entropy + lbd * divergence + eta * entropy
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)
    assert output.metrics["divergence"].item() == pytest.approx(divergence, rel=1e-4)
    assert output.metrics["entropy"].item() == pytest.approx(entropy, rel=1e-5)
    assert torch.equal(output.logits[0], member(given.x + 0.7 * given.noise(0)))


def test_with_equal_weights_it_is_a_cross_entropy_between_predictions():
    logits = 3 * torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    divergence, entropy = disagreement(logits)
    mean = logits.softmax(-1).mean(0)
    cross = -(mean * logits.log_softmax(-1)).sum(-1).mean(0)
    torch.testing.assert_close(divergence + entropy, cross)


def test_equal_predictions_do_not_diverge_and_extreme_ones_stay_finite():
    one = torch.tensor([[[90.0, -90.0, 0.0]]], requires_grad=True)
    divergence, _ = disagreement(one.expand(2, -1, -1))
    assert divergence.abs().max() < 1e-6
    divergence, entropy = disagreement(torch.stack([one[0], -one[0]]))
    (divergence + entropy).sum().backward()
    assert divergence.item() == pytest.approx(90 - np.log(2), rel=1e-5)
    assert torch.isfinite(one.grad).all()


def test_an_image_does_not_feel_its_company():
    given, member = batch(8), convolutional().eval()
    loss = build_loss("consistency", {"sigma": 0.5})
    halves = [loss([member], part(given, rows)) for rows in (slice(0, 4), slice(4, 8))]
    mean = sum(half.loss for half in halves) / 2
    torch.testing.assert_close(loss([member], given).loss, mean)


def test_one_draw_is_refused():
    with pytest.raises(ConfigurationError, match=r"loss\.num_noise"):
        build_loss("consistency", {"sigma": 0.5, "num_noise": 1})
