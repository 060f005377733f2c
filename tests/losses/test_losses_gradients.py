"""Slopes of the losses of one member against differences of their formulas: where a gradient
flows through a mean prediction or a clean one, and where it stops at an image.
"""

import numpy as np
import pytest
import torch
from losses_helpers import batch
from losses_oracle import check, probabilities, trained
from scipy.stats import norm

from phalanx.losses import build_loss

SIGMA = 0.3
DRAWS = 3


def stability(own, passes, y, _):
    noisy, clean = (probabilities(own, x)[0] for x in passes)
    right = -np.log(clean[np.arange(len(y)), y]).mean()
    return right + 2.0 * -(clean * np.log(noisy)).sum(-1).mean()


def drawn(own, x, y):
    p = probabilities(own, x)[0].reshape(DRAWS, len(y), -1)
    return p, p.mean(0), -np.log(p[:, np.arange(len(y)), y]).mean()


def consistency(own, passes, y, _):
    p, mean, cross_entropy = drawn(own, passes[0], y)
    divergence = (mean * np.log(mean / p)).sum(-1).mean()
    return cross_entropy + 10.0 * divergence - 0.5 * (mean * np.log(mean)).sum(-1).mean()


def smoothadv(own, passes, y, _):
    return drawn(own, passes[0], y)[2]


def adre(own, passes, y, _):
    _, mean, cross_entropy = drawn(own, passes[0], y)
    others = mean.copy()
    others[np.arange(len(y)), y] = 0
    return cross_entropy + 0.1 * np.log(others.max(-1)).mean()


def macer(own, passes, y, _):
    _, mean, _ = drawn(own, passes[0], y)
    w1, b1, w2, b2 = own
    logits = np.tanh(passes[0] @ w1.T + b1) @ w2.T + b2
    sharp = np.exp(2.0 * logits)
    q = (sharp / sharp.sum(-1, keepdims=True)).reshape(DRAWS, len(y), -1).mean(0)
    total = -np.log(mean[np.arange(len(y)), y]).sum()
    for row, label in enumerate(y):
        second, first = np.sort(q[row])[-2:]
        gap = norm.ppf(first) - norm.ppf(second)
        if q[row].argmax() == label and gap <= 8.0:
            total += 16.0 * SIGMA / 2 * (8.0 - gap)
    return total / len(y)


def smoothmix(own, passes, y, u):
    _, mean, cross_entropy = drawn(own, passes[0], y)
    target = (1 - u) * mean + u / mean.shape[1]
    mixed = drawn(own, passes[1], y)[0]
    divergence = (target * np.log(target / mixed)).sum(-1)
    return cross_entropy + 5.0 * ((mean.argmax(-1) == y) * divergence).mean()


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        (stability, {}),
        (consistency, {"num_noise": DRAWS}),
        (smoothadv, {"num_noise": DRAWS}),
        (adre, {"num_noise": DRAWS}),
        (macer, {"num_noise": DRAWS, "beta": 2.0}),
        (smoothmix, {"num_noise": DRAWS}),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_the_slope_is_that_of_the_formula_at_inputs_that_stand_still(formula, options):
    given, members = batch(12, progress=20.0), trained(1)
    loss = build_loss(formula.__name__, {"sigma": SIGMA, **options})
    with torch.random.fork_rng():
        torch.manual_seed(4)
        shown = loss.inputs(members[0], given)
        torch.manual_seed(4)
        output = loss(members, given)
    assert not any(x.requires_grad for x in shown.passes)
    passes = [x.flatten(1).double().numpy() for x in shown.passes]
    share = None if shown.mixed is None else shown.mixed.double().numpy()[:, None]
    y = given.y.numpy()
    check(output.loss, members, lambda own: formula(own[0], passes, y, share))
