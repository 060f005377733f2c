"""SmoothMix against a transcription in numpy, where the adversary's gradient is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from losses_helpers import batch, linear, seeded
from scipy.special import log_softmax, softmax

from phalanx.errors import ConfigurationError
from phalanx.losses import build_loss

SIGMA = 0.4


def shortened(rows, longest):
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows * np.minimum(1, longest / np.maximum(length, 1e-30))


def expected(member, given, options, warm):
    weight, bias = (p.detach().double().numpy() for p in member[1].parameters())
    x, y = given.x.flatten(1).double().numpy(), given.y.numpy()
    rows, draws = np.arange(len(y)), options["num_noise"]
    noise = np.stack([given.noise(i).flatten(1).double().numpy() for i in range(draws)]) * SIGMA
    logits = lambda at: (at + noise) @ weight.T + bias  # noqa: E731

    end, visited = x, [x]
    for _ in range(options["num_steps"]):
        p = softmax(logits(end), axis=-1)
        gradient = (p[:, rows, y, None] * (p @ weight - weight[y])).sum(0)
        end = end + options["step_size"] * gradient / np.linalg.norm(gradient, axis=1)[:, None]
        if options.get("max_norm"):
            end = x + shortened(end - x, options["max_norm"])
        end = np.clip(end, 0, 1)
        visited.append(end)
    longest = options.get("max_norm_start") or options["mix_step"] * options["step_size"]
    start = np.clip(x + shortened(visited[options["mix_step"]] - x, longest * warm), 0, 1)

    with torch.random.fork_rng():
        torch.manual_seed(11)  # as losses_helpers.seeded does
        u = (torch.rand(len(y)) / 2).double().numpy()[:, None]
    plain = logits(start)
    mean = softmax(plain, axis=-1).mean(0)
    target = (1 - u) * mean + u / mean.shape[1]
    mixed = log_softmax(logits((1 - u) * start + u * end), axis=-1)
    divergence = (target * (np.log(target) - mixed)).sum(-1)
    right = mean.argmax(-1) == y
    cross_entropy = -log_softmax(plain, axis=-1)[:, rows, y].mean()
    return cross_entropy + options["eta"] * warm * (right * divergence).mean(), right.mean()


@pytest.mark.parametrize("progress", [0.0, 12.0])
@pytest.mark.parametrize(
    "options",
    [
        {"num_noise": 2, "num_steps": 4, "step_size": 0.5, "mix_step": 1, "eta": 5.0},
        {"num_noise": 3, "num_steps": 2, "step_size": 1.0, "mix_step": 0, "eta": 1.0},
        {
            "num_noise": 1,
            "num_steps": 5,
            "step_size": 0.3,
            "mix_step": 3,
            "eta": 2.0,
            "max_norm": 0.7,
            "max_norm_start": 0.4,
        },
    ],
)
def test_it_is_the_published_loss(options, progress):
    given, member = replace(batch(20), progress=progress), linear()
    output = seeded(build_loss("smoothmix", {"sigma": SIGMA, **options}), [member], given)
    loss, right = expected(member, given, options, min(1, (int(progress) + 1) / 10))
    assert output.loss.item() == pytest.approx(loss, rel=1e-4)
    assert output.metrics["mixed"].item() == pytest.approx(right)
    assert 0 < right < 1


def test_the_mixing_share_differs_from_image_to_image_and_stays_below_one_half():
    given = batch(7)
    loss = build_loss("smoothmix", {"sigma": SIGMA, "num_noise": 2})
    shares = loss.inputs(linear(), given).mixed
    assert shares.shape == (7,)
    assert len(set(shares.tolist())) == 7
    assert ((shares >= 0) & (shares < 0.5)).all()


def test_a_member_that_is_certain_stays_finite():
    given, member = batch(), linear()
    member[1].weight.data.mul_(1000)
    loss = seeded(build_loss("smoothmix", {"sigma": SIGMA}), [member], given).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(member[1].weight.grad).all()


def test_mixing_starts_before_the_adversary_ends():
    with pytest.raises(ConfigurationError, match="mix_step is 4 of 4 steps"):
        build_loss("smoothmix", {"sigma": 0.5, "num_steps": 4, "mix_step": 4})
