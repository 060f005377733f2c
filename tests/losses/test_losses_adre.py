"""ADRE against its formula in scipy, float64."""

import numpy as np
import pytest
import torch
from losses_helpers import batch, linear
from scipy.special import log_softmax, softmax

from phalanx.losses import build_loss
from phalanx.losses._adversary import Adversary


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_it_is_the_formula(scale):
    given, member = batch(20), linear()
    member[1].weight.data.mul_(scale)
    output = build_loss("adre", {"sigma": 0.5, "num_noise": 4, "lbd": 0.7})([member], given)
    weight, bias = (p.detach().double().numpy() for p in member[1].parameters())
    noisy = [(given.x + 0.5 * given.noise(i)).flatten(1).double().numpy() for i in range(4)]
    logits = np.stack(noisy) @ weight.T + bias
    rows, y = np.arange(len(given.y)), given.y.numpy()
    mean = softmax(logits, axis=-1).mean(0)
    right = mean[rows, y].copy()
    mean[rows, y] = 0
    runner_up = np.log(mean.max(-1)).mean()
    cross_entropy = -log_softmax(logits, axis=-1)[:, rows, y].mean()
    assert output.loss.item() == pytest.approx(cross_entropy + 0.7 * runner_up, rel=1e-4)
    assert output.metrics["log_runner_up"].item() == pytest.approx(runner_up, rel=1e-4)
    assert (right < mean.max(-1)).any()  # wrong images count with their strongest wrong class
    output.loss.backward()
    assert torch.isfinite(member[1].weight.grad).all()


def test_it_can_stand_on_the_adversary():
    given, member = batch(), linear()
    options = {"sigma": 0.5, "num_noise": 2}
    adversary = {"eps": 0.4, "num_steps": 2, "warmup_epochs": 0}
    hard = build_loss("adre", {**options, "adversary": adversary})([member], given)
    x = Adversary(**adversary).move(member, given, [0.5 * given.noise(i) for i in range(2)])
    given.x.copy_(x)
    assert torch.equal(hard.loss, build_loss("adre", options)([member], given).loss)
