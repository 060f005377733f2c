"""Attacks inside certified balls: none may change what the smoothed classifier answers.

The attack is that of Salman et al. (NeurIPS 2019): projected gradient ascent on the loss of
the probability averaged over noise. On a linear classifier, where the edge of the ball is
known, it must succeed just beyond it; an attack that finds nothing anywhere proves nothing.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import phalanx
from phalanx.data.locate import load
from phalanx.models.model import InputSpec, Model
from phalanx.training.shelf import load_recipe
from phalanx.training.trainer import train
from phalanx.verdicts import Verdict

SIGMA, STEPS, NOISES = 0.25, 12, 16
IMAGES, ATTACKS = 120, 10
INSIDE, BEYOND = 1 - 1e-6, 1.05
CONFIDENT = 1e-6
"""Level of a prediction, so small that none of a thousand is expected to be wrong."""
ANYWHERE = InputSpec((-9.0, 9.0))
"""A ball around an image leaves the range of images."""

pytestmark = pytest.mark.usefixtures("one_thread")


def smoothed_attack(model: Model, x: Tensor, labels: Tensor, radius: Tensor, seed: int) -> Tensor:
    """Points at most ``radius`` ``(B,)`` from ``x`` ``(B, *shape)`` where the class is unlikely."""
    draw = torch.Generator().manual_seed(seed)
    delta = on_sphere(torch.randn(x.shape, generator=draw), radius / 2)
    for _ in range(STEPS):
        delta.requires_grad_(True)
        noise = SIGMA * torch.randn((NOISES, *x.shape), generator=draw)
        logits = model((x + delta + noise).flatten(0, 1)).unflatten(0, (NOISES, len(x)))
        likely = logits.softmax(-1).mean(0).gather(1, labels[:, None])
        (gradient,) = torch.autograd.grad(-likely.log().sum(), delta)
        delta = delta.detach() + on_sphere(gradient, radius / 4)
        delta = delta * (radius / lengths(delta)).clamp(max=1).view(-1, *[1] * (x.ndim - 1))
    return x + on_sphere(delta, radius)


def random_attack(x: Tensor, radius: Tensor, seed: int) -> Tensor:
    """Points on the spheres, in any direction."""
    draw = torch.Generator().manual_seed(seed)
    return x + on_sphere(torch.randn(x.shape, generator=draw), radius)


def on_sphere(direction: Tensor, radius: Tensor) -> Tensor:
    """Vectors of length ``radius`` ``(B,)``."""
    scale = radius / lengths(direction).clamp(min=1e-30)
    return direction * scale.view(-1, *[1] * (direction.ndim - 1))


def lengths(x: Tensor) -> Tensor:
    return x.flatten(1).double().norm(dim=1).float()


@pytest.fixture(scope="module")
def digits_model(tmp_path_factory) -> Model:
    """A small network, trained with noise in a second or two."""
    changes = ["model.options.hidden=[32]", "members=1", "epochs=12"]
    folder = tmp_path_factory.mktemp("train") / "run"
    (model,) = train(load_recipe("digits-gaussian", changes), out=folder, workers=1, device="cpu")
    return Model(model.network.eval(), ANYWHERE, 10)


def test_no_attack_inside_a_certified_ball_changes_the_answer(digits_model):
    """More than a thousand points, half of them random and half attacked."""
    x = load("digits").images(range(IMAGES))
    rows = phalanx.certify(digits_model, x, sigma=SIGMA, n=1000, batch=256)
    kept = [i for i, row in enumerate(rows) if row.verdict is Verdict.VERIFIED]
    assert len(kept) * ATTACKS >= 1000
    x, labels = x[kept], torch.tensor([rows[i].predicted for i in kept])
    radius = INSIDE * torch.tensor([rows[i].radius for i in kept])
    smoothed, answered = phalanx.Smoothed(digits_model, SIGMA), 0
    for seed in range(ATTACKS):
        if seed % 2:
            points = random_attack(x, radius, seed)
        else:
            points = smoothed_attack(digits_model, x, labels, radius, seed)
        assert (lengths(points - x) <= radius / INSIDE).all()
        found = smoothed.predict(points, n=1000, alpha=CONFIDENT)
        for label, answer in zip(labels.tolist(), found, strict=True):
            assert answer in (label, phalanx.ABSTAIN)
            answered += answer == label
    assert answered > len(kept) * ATTACKS / 2


def test_the_attack_finds_the_edge_of_a_linear_classifier():
    """Its smoothed classifier is itself, so the true radius is the distance to the plane."""
    draw = torch.Generator().manual_seed(5)
    network = nn.Linear(64, 2)
    with torch.no_grad():
        network.weight.copy_(torch.randn(2, 64, generator=draw))
        network.bias.copy_(torch.randn(2, generator=draw))
    model, x = Model(network.eval(), ANYWHERE, 2), torch.rand(1000, 64, generator=draw)
    normal = (network.weight[1] - network.weight[0]).detach().double()
    offset = (network.bias[1] - network.bias[0]).detach().double()

    def margin(at: Tensor) -> Tensor:
        return (at.double() @ normal + offset) / normal.norm()

    labels, radius = (margin(x) > 0).long(), margin(x).abs().float()

    def broken(factor: float) -> float:
        found = smoothed_attack(model, x, labels, factor * radius, seed=1)
        return ((margin(found) > 0).long() != labels).double().mean().item()

    assert broken(0.999) == 0
    assert broken(BEYOND) >= 0.95
    aimless = random_attack(x, BEYOND * radius, seed=1)
    assert ((margin(aimless) > 0).long() == labels).all()
