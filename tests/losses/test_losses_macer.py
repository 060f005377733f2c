"""MACER against its formula in scipy, float64, and at the edges of its hinge."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from losses_helpers import batch, linear, part
from scipy.special import log_softmax, softmax
from scipy.stats import norm

from phalanx.losses import build_loss
from phalanx.losses.macer import lacking_gap


def sharp(scale=3.0):
    member = linear()
    member[1].weight.data.mul_(scale)
    return member


def expected(member, given, sigma, options):
    weight, bias = (p.detach().double().numpy() for p in member[1].parameters())
    draws = range(options["num_noise"])
    noisy = [(given.x + sigma * given.noise(i)).flatten(1).double().numpy() for i in draws]
    logits = np.stack(noisy) @ weight.T + bias
    y = given.y.numpy()
    mean = np.exp(log_softmax(logits, axis=-1)).mean(0)
    total = -np.log(mean[np.arange(len(y)), y])
    q = softmax(options["beta"] * logits, axis=-1).mean(0)
    pushed = 0
    for row, label in enumerate(y):
        second, first = np.sort(q[row])[-2:]
        gap = norm.ppf(first) - norm.ppf(second)
        if q[row].argmax() == label and gap <= options["gamma"]:
            total[row] += options["lbd"] * sigma / 2 * (options["gamma"] - gap)
            pushed += 1
    return total.mean(), pushed / len(y)


@pytest.mark.parametrize("gamma", [0.5, 3.0, 8.0])
def test_it_is_the_published_formula(gamma):
    given, member = batch(40), sharp()
    options = {"num_noise": 5, "lbd": 6.0, "gamma": gamma, "beta": 4.0}
    output = build_loss("macer", {"sigma": 0.5, **options})([member], given)
    loss, pushed = expected(member, given, 0.5, options)
    assert 0 < pushed < 1
    assert output.metrics["pushed"].item() == pytest.approx(pushed)
    assert output.loss.item() == pytest.approx(loss, rel=1e-4)


def test_only_images_that_are_right_and_near_are_pushed():
    q = torch.tensor([[0.6, 0.4], [0.4, 0.6], [1.0, 0.0], [0.99, 0.01]], requires_grad=True)
    y = torch.zeros(4, dtype=torch.long)
    lacking = lacking_gap(q, y, 4.0)
    torch.testing.assert_close(lacking, torch.tensor([4 - 2 * norm.ppf(0.6)]).float())
    lacking.sum().backward()
    assert torch.isfinite(q.grad).all()
    assert (q.grad[0] != 0).all()
    assert (q.grad[1:] == 0).all()


def test_where_no_image_is_right_only_the_first_term_is_left():
    given, member = batch(), sharp()
    wrong = replace(given, y=(member(given.x).argmax(-1) + 1) % 3)
    options = {"sigma": 0.01, "num_noise": 2}
    with_radius, without = (
        build_loss("macer", {**options, "lbd": lbd})([member], wrong).loss for lbd in (9.0, 0.0)
    )
    assert torch.equal(with_radius, without)
    with_radius.backward()
    assert torch.isfinite(member[1].weight.grad).all()


def test_a_member_that_is_certain_stays_finite():
    given, member = batch(), sharp(1000.0)
    loss = build_loss("macer", {"sigma": 0.5, "num_noise": 3})([member], given).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(member[1].weight.grad).all()


def test_the_radius_can_wait():
    given, member = batch(20), sharp()
    loss = build_loss("macer", {"sigma": 0.5, "num_noise": 3, "defer_epochs": 4})
    plain = build_loss("macer", {"sigma": 0.5, "num_noise": 3, "lbd": 0})([member], given).loss
    before, after = (loss([member], replace(given, progress=p)).loss for p in (3.99, 4.0))
    assert torch.equal(before, plain)
    assert after > plain


def test_an_image_does_not_feel_its_company():
    given, member = batch(20), sharp()
    loss = build_loss("macer", {"sigma": 0.5, "num_noise": 3})
    halves = [loss([member], part(given, rows)).loss for rows in (slice(0, 10), slice(10, 20))]
    torch.testing.assert_close(loss([member], given).loss, sum(halves) / 2)
