"""What the loss does on the way: along the gradient at the image, and along a random direction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.attacks.objective import ce
from phalanx.attacks.target import Target
from phalanx.audit.collect import Trial
from phalanx.audit.protocols import RANDOM
from phalanx.runtime.device import full_precision
from phalanx.runtime.keys import noise_key

STEPS = 12
IMAGES = 64


@dataclass(frozen=True)
class Surface:
    """Expected loss of the random ensemble along two directions of length eps.

    Attributes:
        share: how far along, 0 .. 1.
        gradient, random: mean loss over images, at each share.
        beaten: share of images whose loss a random direction raises more than the gradient does.
    """

    share: list[float]
    gradient: list[float]
    random: list[float]
    beaten: float


def surface(trial: Trial) -> Surface:
    """Of the first images, at most `IMAGES`."""
    target, threat = trial.target(RANDOM), trial.threat
    x, y = trial.x[:IMAGES].to(target.device), trial.y[:IMAGES].to(target.device)
    with full_precision(target.device):
        uphill = threat.steepest(_gradient(target, x, y))
        aside = threat.steepest(_directions(trial).to(x))
        shares = [step / STEPS for step in range(STEPS + 1)]
        curves = [
            torch.stack(
                [_loss(target, (x + s * threat.eps * way).clamp(threat.low, threat.high), y)
                 for s in shares]
            )
            for way in (uphill, aside)
        ]  # fmt: skip
    beaten = float((curves[1][-1] > curves[0][-1]).float().mean())
    along, across = (curve.mean(1).tolist() for curve in curves)
    return Surface(shares, along, across, beaten)


def _directions(trial: Trial) -> Tensor:
    """One for each image, from a key of its own."""
    rows = []
    for sample in trial.samples[:IMAGES]:
        seed = noise_key("surface", trial.seed, int(sample)) & (2**63 - 1)
        rows.append(torch.randn(trial.x.shape[1:], generator=torch.Generator().manual_seed(seed)))
    return torch.stack(rows)


def _gradient(target: Target, x: Tensor, y: Tensor) -> Tensor:
    at = x.clone().requires_grad_()
    with torch.enable_grad():
        loss = ce(target.see(at, [0] * len(x)).steep, target.steep_weights, y).sum()
        (gradient,) = torch.autograd.grad(loss, at)
    return gradient


def _loss(target: Target, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return ce(target.see(x, [0] * len(x)).scores, target.weights, y).cpu()
