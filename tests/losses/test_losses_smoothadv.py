"""SmoothAdv: the attacks against transcriptions in numpy, where the gradient is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from losses_helpers import batch, convolutional, linear, part, smooth, weights
from torch.nn.functional import cross_entropy

from phalanx.errors import ConfigurationError
from phalanx.losses import build_loss
from phalanx.losses._adversary import Adversary
from phalanx.losses._smoothed import Smoothed


class Linear:
    """A linear classifier under noises: loss gradient and majority vote, by hand in float64."""

    def __init__(self, member, given, sigma, draws):
        self.weight, self.bias = (p.detach().double().numpy() for p in member[1].parameters())
        noises = [sigma * given.noise(draw) for draw in range(draws)]
        self.noises = np.stack([noise.flatten(1).double().numpy() for noise in noises])
        self.y = given.y.numpy()

    def probabilities(self, x):
        logits = (x + self.noises) @ self.weight.T + self.bias
        scores = np.exp(logits - logits.max(-1, keepdims=True))
        return scores / scores.sum(-1, keepdims=True)

    def gradient(self, x):
        """Of ``-log mean_i p_i[y]``: the mean of ``p_i[y] (sum_c p_i[c] w_c - w_y)`` over it."""
        p = self.probabilities(x)
        of_label = p[:, np.arange(len(self.y)), self.y][..., None]
        each = of_label * (p @ self.weight - self.weight[self.y])
        return each.sum(0) / of_label.sum(0)

    def wrong(self, x):
        votes = self.probabilities(x).argmax(-1)
        counts = np.stack([(votes == c).sum(0) for c in range(len(self.bias))])
        return counts.argmax(0) != self.y


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def shortened(rows, longest):
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows * np.minimum(1, longest / np.maximum(length, 1e-30))


def pgd(given, target, eps, steps):
    start = given.x.flatten(1).double().numpy()
    delta = np.zeros_like(start)
    for _ in range(steps):
        delta = delta + 2 * eps / steps * unit(target.gradient(start + delta))
        delta = np.clip(start + delta, 0, 1) - start
        delta = shortened(delta, eps)
    return delta


def ddn(given, target, eps, steps, gamma):
    start = given.x.flatten(1).double().numpy()
    furthest = np.linalg.norm(np.maximum(start, 1 - start), axis=1)
    delta, kept = np.zeros_like(start), np.zeros_like(start)
    norm, best = np.full(len(start), eps), furthest.copy()
    for step in range(steps):
        length, wrong = np.linalg.norm(delta, axis=1), target.wrong(start + delta)
        better = wrong & (length < best)
        best[better], kept[better] = length[better], delta[better]
        rate = 0.01 + 0.99 * (1 + np.cos(np.pi * (step + 1) / steps)) / 2
        delta = delta + rate * unit(target.gradient(start + delta))
        norm = np.minimum(np.where(wrong, norm * (1 - gamma), norm * (1 + gamma)), furthest)
        delta = norm[:, None] * unit(delta)
        delta = np.clip(np.round((start + delta) * 255) / 255, 0, 1) - start
    return np.round(shortened(kept, eps) * 255) / 255


def moved(given, member, draws, sigma=0.3, **options):
    adversary = Adversary(warmup_epochs=0, **options)
    noises = [sigma * given.noise(draw) for draw in range(draws)]
    return adversary.move(member, given, noises) - given.x


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize(("eps", "steps"), [(0.3, 1), (0.5, 4), (3.0, 10)])
def test_pgd_is_the_published_attack(draws, eps, steps):
    given, member = batch(), linear()
    delta = moved(given, member, draws, eps=eps, num_steps=steps)
    expected = pgd(given, Linear(member, given, 0.3, draws), eps, steps)
    np.testing.assert_allclose(delta.flatten(1).numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("eps", [0.2, 1.5])
def test_ddn_is_the_published_attack(draws, eps):
    given, member = batch(40), linear()
    given = replace(given, x=(given.x * 255).round() / 255)
    delta = moved(given, member, draws, eps=eps, num_steps=8, attack="ddn", gamma=0.1)
    expected = ddn(given, Linear(member, given, 0.3, draws), eps, 8, 0.1)
    # A value half way between two greys may be rounded either way.
    off = np.abs(delta.flatten(1).numpy() - expected)
    assert off.max() < 1.01 / 255
    assert (off > 1e-4).mean() < 0.01
    assert (np.abs(expected).max(1) == 0).any()
    assert (np.abs(expected).max(1) > 0).any()


@pytest.mark.parametrize("attack", ["pgd", "ddn"])
def test_the_images_stay_near_and_in_range_and_the_loss_rises(attack):
    given = replace(batch(), value_range=(-0.2, 1.1))
    member = smooth()
    delta = moved(given, member, 2, eps=0.6, attack=attack, num_steps=10)
    slack = 0 if attack == "pgd" else 0.5 * 1.3 / 255 * 6
    assert delta.flatten(1).norm(dim=1).max() <= 0.6 + slack + 1e-6
    assert (given.x + delta).min() >= -0.2
    assert (given.x + delta).max() <= 1.1 + 1e-6
    before, after = (
        sum(cross_entropy(member(x + 0.3 * given.noise(i)), given.y) for i in range(2))
        for x in (given.x, given.x + delta)
    )
    assert after > before


def test_the_gradient_is_that_of_the_smoothed_loss():
    """Central differences on a smooth network in float64."""
    given, member = batch(2), smooth().double()
    given = replace(given, x=given.x.double())
    noises = [0.4 * given.noise(i).double() for i in range(3)]
    gradient, logits = Smoothed(member, given.y, noises).gradient(given.x)
    assert logits.shape == (3, 2, 3)

    def loss(x):
        mean = torch.stack([member(x + noise).float().softmax(-1) for noise in noises]).mean(0)
        return -mean[torch.arange(2), given.y].log()

    direction = torch.randn(given.x.shape, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        rise = (loss(given.x + 1e-2 * direction) - loss(given.x - 1e-2 * direction)) / 2e-2
    torch.testing.assert_close(
        (gradient * direction).flatten(1).sum(1), rise.double(), rtol=2e-3, atol=1e-4
    )


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.1), (0.99, 0.1), (4.2, 0.5), (30.0, 1.0)])
def test_the_radius_warms_up_by_whole_epochs(progress, share):
    given = replace(batch(), progress=progress)
    noises = [torch.zeros_like(given.x)]
    now = Adversary(eps=0.5, num_steps=3).move(linear(), given, noises)
    fixed = Adversary(eps=0.5 * share, num_steps=3, warmup_epochs=0).move(linear(), given, noises)
    torch.testing.assert_close(now, fixed)


def test_the_loss_is_the_cross_entropy_under_the_attacked_noises():
    given, member = batch(), convolutional().eval()
    options = {"num_noise": 3, "adversary": {"eps": 0.7, "num_steps": 2, "warmup_epochs": 0}}
    output = build_loss("smoothadv", {"sigma": 0.4, **options})([member], given)
    noises = [0.4 * given.noise(i) for i in range(3)]
    x = Adversary(eps=0.7, num_steps=2, warmup_epochs=0).move(member, given, noises)
    expected = sum(cross_entropy(member(x + noise), given.y) for noise in noises) / 3
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    own = torch.autograd.grad(expected, weights([member]))
    for p, gradient in zip(weights([member]), own, strict=True):
        torch.testing.assert_close(p.grad, gradient)


def test_each_member_has_an_adversary_of_its_own_and_images_no_company():
    given, members = batch(8), [convolutional(seed).eval() for seed in range(2)]
    loss = build_loss("smoothadv", {"sigma": 0.4, "num_noise": 2})
    alone = [loss([member], given).loss for member in members]
    torch.testing.assert_close(loss(members, given).loss, sum(alone) / 2)
    halves = [loss(members[:1], part(given, rows)).loss for rows in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(alone[0], sum(halves) / 2, rtol=1e-4, atol=1e-5)


def test_a_flat_member_is_left_alone():
    """No direction leads up: the image stays, and nothing becomes NaN."""
    given, member = batch(), linear()
    member[1].weight.data.zero_()
    for attack in ("pgd", "ddn"):
        delta = moved(given, member, 2, attack=attack)
        assert torch.isfinite(delta).all()
    assert moved(given, member, 2).abs().max() == 0


def test_consistency_can_stand_on_the_adversary():
    given, member = batch(), convolutional().eval()
    adversary = {"eps": 0.7, "num_steps": 2, "warmup_epochs": 0}
    plain = build_loss("consistency", {"sigma": 0.4})
    hard = build_loss("consistency", {"sigma": 0.4, "adversary": adversary})
    x = Adversary(**adversary).move(member, given, [0.4 * given.noise(i) for i in range(2)])
    torch.testing.assert_close(
        hard([member], given).loss, plain([member], replace(given, x=x)).loss
    )


@pytest.mark.parametrize(
    "options", [{"eps": 0}, {"num_steps": 0}, {"attack": "fgsm"}, {"gamma": 1.0}, {"speed": 3}]
)
def test_options_of_the_adversary_are_checked(options):
    with pytest.raises(ConfigurationError, match=rf"loss\.adversary\.{next(iter(options))}"):
        build_loss("smoothadv", {"sigma": 0.5, "adversary": options})
