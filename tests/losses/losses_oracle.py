"""Two-layer networks in numpy with their input gradients in closed form, and derivatives by
differences: what the terms over several members are tested against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from losses_helpers import smooth, weights
from torch import nn

Parameters = list[list[np.ndarray]]


def parameters(members: Sequence[nn.Module]) -> Parameters:
    """Weights and biases in float64, by member."""
    return [[p.detach().double().numpy().copy() for p in m.parameters()] for m in members]


def probabilities(own: list[np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Softmax ``(R, C)`` of ``W2 tanh(W1 x + b1) + b2`` and its Jacobian ``(R, C, D)``."""
    w1, b1, w2, b2 = own
    hidden = np.tanh(x @ w1.T + b1)
    logits = hidden @ w2.T + b2
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    of_logits = np.einsum("ch,rh,hd->rcd", w2, 1 - hidden**2, w1)
    return p, p[..., None] * (of_logits - np.einsum("rc,rcd->rd", p, of_logits)[:, None])


def margins(own: list[np.ndarray], x: np.ndarray, y: np.ndarray):
    """Margin ``(R,)`` of the class over the strongest other one, and its gradient ``(R, D)``."""
    p, jacobian = probabilities(own, x)
    rows = np.arange(len(y))
    others = p.copy()
    others[rows, y] = -1
    rival = others.argmax(-1)
    return p[rows, y] - p[rows, rival], jacobian[rows, y] - jacobian[rows, rival]


def loss_gradients(own: list[np.ndarray], x: np.ndarray, y: np.ndarray):
    """Cross entropy ``(R,)`` and its gradient at the input ``(R, D)``."""
    p, jacobian = probabilities(own, x)
    rows = np.arange(len(y))
    return -np.log(p[rows, y]), -jacobian[rows, y] / p[rows, y, None]


def trained(count: int = 3, scale: float = 2.0) -> list[nn.Module]:
    """Members that are right on some images and wrong on others."""
    members = [smooth(seed) for seed in range(count)]
    for p in weights(members):
        p.data.mul_(scale)
    return members


def check(
    loss: torch.Tensor,
    members: Sequence[nn.Module],
    formula: Callable[[Parameters], float],
    tolerance: float = 2e-3,
) -> None:
    """``loss`` is the formula's value, and its gradient the formula's slope (by central
    differences in float64) along random directions of the weights.
    """
    given = parameters(members)
    np.testing.assert_allclose(loss.item(), formula(given), rtol=1e-4)
    gradients = [g.double().numpy() for g in torch.autograd.grad(loss, weights(members))]
    generator, step = np.random.default_rng(0), 1e-5
    for _ in range(4):
        directions = [[generator.standard_normal(p.shape) for p in own] for own in given]
        flat = [d for own in directions for d in own]
        along = sum((g * d).sum() for g, d in zip(gradients, flat, strict=True))
        up, down = (formula(shifted(given, directions, sign * step)) for sign in (1, -1))
        slope = (up - down) / (2 * step)
        np.testing.assert_allclose(along, slope, rtol=tolerance, atol=tolerance)


def shifted(given: Parameters, directions: Parameters, by: float) -> Parameters:
    return [
        [p + by * d for p, d in zip(own, along, strict=True)]
        for own, along in zip(given, directions, strict=True)
    ]
