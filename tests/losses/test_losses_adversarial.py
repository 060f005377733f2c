"""Adversarial training and TRADES: the ball they search, and the formulas at what they find."""

import numpy as np
import pytest
import torch
from losses_helpers import batch, linear, seeded
from losses_oracle import check, probabilities, trained

from phalanx.errors import ConfigurationError
from phalanx.losses import build_loss
from phalanx.losses._pgd import Ascent
from phalanx.losses.trades import divergences


def moved_by(loss, members, given):
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return loss.inputs(members[0], given).passes


def cost(name, member, given, x):
    """What the ascent raises."""
    logs = member(x).log_softmax(-1)
    if name == "adversarial":
        return torch.nn.functional.nll_loss(logs, given.y)
    return divergences(member(given.x).log_softmax(-1), logs).mean()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["adversarial", "trades"])
def test_what_is_shown_lies_in_the_ball_and_the_range_and_does_worse(name, norm):
    given, members = batch(12), trained(1)
    attack = {"norm": norm, "eps": 0.2 if norm == "linf" else 0.8}
    loss = build_loss(name, {"sigma": 0.0, "attack": attack})
    moved = moved_by(loss, members, given)[-1]
    with torch.random.fork_rng():
        torch.manual_seed(11)
        start = loss.attack._inside(given.x + loss.attack._start(given.x), given.x, (0.0, 1.0))
    move = (moved - given.x).flatten(1)
    size = move.abs().amax(1) if norm == "linf" else move.norm(dim=1)
    assert (size <= attack["eps"] * (1 + 1e-6)).all()
    assert (size > 0.2 * attack["eps"]).any()
    assert moved.min() >= -1e-7
    assert moved.max() <= 1 + 1e-7
    assert cost(name, members[0], given, moved) > cost(name, members[0], given, start)


def test_on_a_linear_two_class_network_the_ascent_reaches_the_worst_point():
    """There the worst point of an l_inf ball is known: each value moves by eps, by its sign."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2))
    given = batch(8)
    given.x.mul_(0.5).add_(0.25)  # so that the range binds nowhere
    y = given.y % 2
    loss = build_loss("adversarial", {"sigma": 0.0, "attack": {"eps": 0.1}})
    moved = moved_by(loss, [network], type(given)(given.x, y, given.noise))[0]
    difference = (network[1].weight[1] - network[1].weight[0]).sign().view(1, 6, 6)
    signs = torch.where(y == 0, 1.0, -1.0).view(-1, 1, 1, 1)
    torch.testing.assert_close(moved, given.x + 0.1 * signs * difference, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("progress", "share"), [(0.5, 0.25), (1.0, 0.5), (3.0, 1.0), (9.0, 1.0)])
def test_the_radius_rises_with_every_epoch(progress, share):
    member, given = linear(), batch(8, progress=progress)
    given.x.mul_(0.5).add_(0.25)
    options = {"sigma": 0.0, "attack": {"eps": 0.1}}
    rising = build_loss("adversarial", {**options, "warmup_epochs": 4})
    whole = build_loss("adversarial", {**options, "attack": {"eps": 0.1 * share}})
    moved = moved_by(rising, [member], given)[0]
    torch.testing.assert_close(moved, moved_by(whole, [member], given)[0])
    assert float((moved - given.x).abs().max()) == pytest.approx(0.1 * share, abs=1e-6)


def test_in_the_euclidean_ball_too():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2))
    given = batch(8)
    given.x.mul_(0.5).add_(0.25)
    y = given.y % 2
    options = {"sigma": 0.0, "attack": {"norm": "l2", "eps": 0.2, "steps": 40, "step_size": 0.2}}
    moved = moved_by(
        build_loss("adversarial", options), [network], type(given)(given.x, y, given.noise)
    )[0]
    direction = (network[1].weight[1] - network[1].weight[0]).detach()
    signs = torch.where(y == 0, 1.0, -1.0)[:, None]
    worst = given.x.flatten(1) + 0.2 * signs * direction / direction.norm()
    torch.testing.assert_close(moved.flatten(1), worst, atol=2e-3, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_start_is_uniform_in_the_ball(norm):
    x = torch.full((4000, 3), 0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = Ascent(norm=norm, eps=0.3)._start(x)
    size = start.abs().amax(1) if norm == "linf" else start.norm(dim=1)
    shares = torch.quantile(size / 0.3, torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(
        shares, torch.tensor([0.25, 0.5, 0.75]) ** (1 / 3), atol=0.02, rtol=0
    )
    assert start.mean().abs() < 0.01


def test_the_adversarial_loss_is_the_cross_entropy_there():
    given, members = batch(12), trained(1)
    loss = build_loss("adversarial", {"sigma": 0.0})
    x = moved_by(loss, members, given)[0].flatten(1).double().numpy()
    y = given.y.numpy()

    def formula(own):
        return -np.log(probabilities(own[0], x)[0][np.arange(len(y)), y]).mean()

    check(seeded(loss, members, given).loss, members, formula)


def test_trades_is_the_published_formula_and_both_sides_carry_gradients():
    given, members = batch(12), trained(1)
    loss = build_loss("trades", {"sigma": 0.0, "beta": 3.0, "attack": {"eps": 0.2}})
    clean, moved = (x.flatten(1).double().numpy() for x in moved_by(loss, members, given))
    y = given.y.numpy()

    def formula(own):
        p, q = (probabilities(own[0], x)[0] for x in (clean, moved))
        divergence = (p * np.log(p / q)).sum(-1).mean()
        return -np.log(p[np.arange(len(y)), y]).mean() + 3.0 * divergence

    check(seeded(loss, members, given).loss, members, formula)


def test_trades_must_start_elsewhere():
    with pytest.raises(ConfigurationError, match=r"loss.attack.*flat at the image"):
        build_loss("trades", {"sigma": 0.0, "attack": {"random_start": False}})


def test_without_noise_no_noise_is_drawn():
    given = batch()
    for name in ("adversarial", "trades", "gaussian"):
        seeded(build_loss(name, {"sigma": 0.0}), [linear()], given)
    assert given.noise.asked == []
