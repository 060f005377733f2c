"""GAL, TRS, ADP and DVERGE against closed forms; gradients against differences of these."""

import copy
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from losses_helpers import batch, convolutional, seeded, smooth, weights
from losses_oracle import check, loss_gradients, parameters, probabilities, trained
from torch import nn

from phalanx.errors import ConfigurationError
from phalanx.losses import build_loss
from phalanx.losses.adp import log_determinants
from phalanx.losses.dverge import Features, feature_layers

SIGMA = 0.3


def flat(given):
    return (given.x + SIGMA * given.noise(0)).flatten(1).double().numpy(), given.y.numpy()


def cosines(gradients):
    return np.stack(
        [
            (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
            for a, b in combinations(gradients, 2)
        ]
    )


def test_gal_is_the_published_formula():
    given, members = batch(12), trained()
    output = build_loss("gal", {"sigma": SIGMA, "coherence": 0.8})(members, given)
    x, y = flat(given)

    def formula(own):
        each = [loss_gradients(one, x, y) for one in own]
        coherence = np.log(np.exp(cosines([g for _, g in each])).sum(0)).mean()
        return sum(loss.mean() for loss, _ in each) + 0.8 * coherence

    check(output.loss, members, formula)


@pytest.mark.parametrize("reduction", ["sample", "batch"])
def test_trs_is_the_published_formula(reduction):
    given, members = batch(12), trained()
    options = {"cosine": 0.8, "smoothness": 0.3, "reduction": reduction}
    output = build_loss("trs", {"sigma": SIGMA, **options})(members, given)
    x, y = flat(given)

    def formula(own):
        each = [loss_gradients(one, x, y) for one in own]
        alignment = np.abs(cosines([g for _, g in each])).mean()
        scale = len(y) if reduction == "batch" else 1
        length = sum(2 * ((g / scale) ** 2).sum(-1).mean() for _, g in each) / len(own)
        return sum(loss.mean() for loss, _ in each) + 0.8 * alignment + 0.3 * length

    check(output.loss, members, formula)


def test_the_length_of_gradients_does_not_depend_on_the_size_of_the_batch():
    given, members = batch(6), trained()
    twice = replace(given, x=given.x.repeat(2, 1, 1, 1), y=given.y.repeat(2))
    for reduction, factor in (("sample", 1), ("batch", 4)):
        loss = build_loss("trs", {"sigma": 0.0, "reduction": reduction})
        once, double = (
            loss(members, replace(b, noise=lambda _, b=b: torch.zeros_like(b.x)))
            for b in (given, twice)
        )
        torch.testing.assert_close(
            once.metrics["gradient_length"], factor * double.metrics["gradient_length"]
        )


def test_trs_looks_for_rough_places_in_the_second_half_only():
    given, members = batch(20), trained()
    loss = build_loss("trs", {"sigma": SIGMA, "smooth_eps": 0.1})
    seen = [loss._look(member, given) for member in members]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        moved = loss.roughest(seen)
    moves = [now.x.detach() - then.x.detach() for now, then in zip(moved, seen, strict=True)]
    assert all(torch.equal(move, moves[0]) for move in moves)
    assert (moves[0][:10] == 0).all()
    assert (moves[0][10:] != 0).any()
    assert moves[0].abs().max() <= 0.1 + 1e-6
    still = build_loss("trs", {"sigma": SIGMA})
    rough, plain = (seeded(way, members, given).metrics for way in (loss, still))
    assert rough["gradient_length"] > plain["gradient_length"]
    assert torch.equal(rough["gradient_cosine"], plain["gradient_cosine"])


def test_adp_is_the_published_formula():
    given, members = batch(12), trained(2)
    options = {"entropy": 1.5, "determinant": 0.4}
    output = build_loss("adp", {"sigma": SIGMA, **options})(members, given)
    x, y = flat(given)

    def formula(own):
        each = [probabilities(one, x)[0] for one in own]
        mean = sum(each) / len(each)
        entropy = -(mean * np.log(mean)).sum(-1).mean()
        logs = []
        for row, label in enumerate(y):
            wrong = np.stack([np.delete(p[row], label) for p in each])
            wrong /= np.linalg.norm(wrong, axis=-1, keepdims=True)
            logs.append(np.linalg.slogdet(wrong @ wrong.T + 1e-6 * np.eye(len(each)))[1])
        losses = sum(loss_gradients(one, x, y)[0].mean() for one in own)
        return losses - 1.5 * entropy - 0.4 * np.mean(logs)

    check(output.loss, members, formula)


def test_adp_survives_certain_members_and_equal_ones():
    logits = torch.tensor([[[200.0, 0.0, -50.0]], [[200.0, -50.0, 0.0]]], requires_grad=True)
    apart = log_determinants(logits, torch.tensor([0]))
    assert apart.item() == pytest.approx(0, abs=1e-5)
    equal = log_determinants(logits[:1].expand(2, -1, -1), torch.tensor([0]))
    assert equal.item() == pytest.approx(np.log(2e-6), abs=0.2)
    (apart + equal).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_the_volume_is_computed_in_float32_under_autocast():
    logits = torch.randn(3, 8, 10, generator=torch.Generator().manual_seed(0))
    y = torch.arange(8)
    exact = log_determinants(logits, y)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(log_determinants(logits, y), exact)


def distilled(own, given, order, options):
    """DVERGE's moves for one member, by hand: its only features are ``W1 x + b1``."""
    w1, b1 = own[:2]
    x, noise = given.x.flatten(1).double().numpy(), given.noise(0).flatten(1).double().numpy()
    noise = SIGMA * noise
    features = lambda at: at @ w1.T + b1  # noqa: E731
    target = features((x + noise)[order])
    move, momentum = np.zeros_like(x), np.zeros_like(x)
    for _ in range(options["distill_steps"]):
        gradient = (features(x + move + noise) - target) @ w1
        length = np.abs(gradient).sum(-1, keepdims=True)  # 0 where an image is its own target
        momentum += gradient / np.maximum(length, 1e-12)
        move = move - options["distill_step"] * np.sign(momentum)
        move = np.clip(move, -options["distill_eps"], options["distill_eps"])
        move = np.clip(x + move, 0, 1) - x
    return x + move + noise


def test_dverge_is_the_published_formula():
    given, members = batch(12), trained()
    options = {"distill_eps": 0.1, "distill_step": 0.03, "distill_steps": 5}
    loss = build_loss("dverge", {"sigma": SIGMA, "layer": 0, "base_weight": 0.6, **options})
    output = seeded(loss, members, given)
    with torch.random.fork_rng():
        torch.manual_seed(11)  # as losses_helpers.seeded does
        order = torch.randperm(12).numpy()
    own = parameters(members)
    moved = [distilled(one, given, order, options) for one in own]
    x, y = flat(given)
    expected = 0.6 * sum(loss_gradients(one, x, y)[0].mean() for one in own)
    for i, one in enumerate(own):
        for j, images in enumerate(moved):
            if i != j:
                expected += loss_gradients(one, images, y)[0].mean()
    assert output.loss.item() == pytest.approx(expected, rel=1e-3)
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in weights(members))


def test_dverge_follows_the_sum_of_its_gradients():
    """On features that bend, where each step's gradient points elsewhere."""
    given, wide = batch(12), 9
    with torch.random.fork_rng():
        torch.manual_seed(2)
        member = nn.Sequential(
            nn.Flatten(),
            nn.Linear(36, wide),
            nn.Tanh(),
            nn.Linear(wide, 4),
            nn.Tanh(),
            nn.Linear(4, 3),
        )
    for p in member.parameters():
        p.data.mul_(4)
    options = {"distill_eps": 0.5, "distill_step": 0.1, "distill_steps": 8}
    loss = build_loss("dverge", {"sigma": SIGMA, "layer": 1, **options})
    order = torch.arange(11, -1, -1)
    noise = SIGMA * given.noise(0)
    moved = loss.distil(Features(member, member[3]), given, noise, order)

    w1, b1, w2, b2 = (p.detach().double().numpy() for p in list(member.parameters())[:4])
    x, still = (t.flatten(1).double().numpy() for t in (given.x, noise))
    target = np.tanh((x + still)[order] @ w1.T + b1) @ w2.T + b2
    move, momentum = np.zeros_like(x), np.zeros_like(x)
    for _ in range(8):
        hidden = np.tanh((x + move + still) @ w1.T + b1)
        gradient = ((hidden @ w2.T + b2 - target) @ w2 * (1 - hidden**2)) @ w1
        momentum += gradient / np.abs(gradient).sum(-1, keepdims=True)
        move = np.clip(move - 0.1 * np.sign(momentum), -0.5, 0.5)
        move = np.clip(x + move, 0, 1) - x
    np.testing.assert_allclose(moved.flatten(1).numpy(), x + move, atol=1e-5)


def test_dverge_brings_features_closer_within_the_ball_and_the_range():
    given, member = batch(12), convolutional()
    loss = build_loss("dverge", {"sigma": 0.0, "distill_eps": 0.2, "distill_step": 0.04})
    order = torch.arange(11, -1, -1)
    still = torch.zeros_like(given.x)
    for layer in feature_layers(member):
        features = Features(member, layer)
        moved = loss.distil(features, given, still, order)
        assert (moved - given.x).abs().max() <= 0.2 + 1e-6
        assert moved.min() >= 0
        assert moved.max() <= 1
        member.eval()
        with torch.no_grad():
            target = features(given.x[order])
            before, after = ((features(x) - target).square().sum() for x in (given.x, moved))
        member.train()
        assert after < before


def test_features_are_those_before_a_nonlinearity_that_writes_in_place():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        member = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Features(member, member[0])(x), member[0](x))
    assert (member[0](x) < 0).any()


def test_a_layer_the_members_lack_is_refused():
    with pytest.raises(ConfigurationError, match=r"loss\.layer is 1"):
        build_loss("dverge", {"sigma": 0.1, "layer": 1})([smooth(0), smooth(1)], batch())


@pytest.mark.parametrize("name", ["drt", "gal", "trs", "adp", "dverge"])
def test_members_in_another_order_cost_the_same(name):
    # Two, because three directions in the plane of two wrong classes have no volume.
    given, members = batch(), [smooth(seed) for seed in range(2)]
    loss = build_loss(name, {"sigma": SIGMA})
    first, second = (
        seeded(loss, copy.deepcopy(group), given).loss for group in (members, members[::-1])
    )
    torch.testing.assert_close(first, second)
