"""Stability training against the formula in numpy, float64."""

import numpy as np
import pytest
from losses_helpers import batch, linear

from phalanx.losses import build_loss


@pytest.mark.parametrize("lbd", [0.0, 2.0, 7.5])
def test_it_is_the_published_formula(lbd):
    given, member = batch(), linear()
    output = build_loss("stability", {"sigma": 0.7, "lbd": lbd})([member], given)
    weight, bias = (p.detach().double().numpy() for p in member[1].parameters())

    def log_softmax(x):
        logits = x.flatten(1).double().numpy() @ weight.T + bias
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    clean, noisy = log_softmax(given.x), log_softmax(given.x + 0.7 * given.noise(0))
    right = -clean[np.arange(len(given.y)), given.y.numpy()].mean()
    instability = -(np.exp(clean) * noisy).sum(-1).mean()
    assert output.loss.item() == pytest.approx(right + lbd * instability, rel=1e-5)
    assert output.metrics["instability"].item() == pytest.approx(instability, rel=1e-5)


def test_the_log_counts_accuracy_on_noisy_images():
    given, member = batch(), linear()
    output = build_loss("stability", {"sigma": 0.7})([member], given)
    assert output.logits[0].equal(member(given.x + 0.7 * given.noise(0)))
