"""Two gloo processes share every step: the same training up to rounding."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from phalanx.errors import ConfigurationError, DataError
from phalanx.models import checkpoint
from phalanx.training.distributed import Team
from phalanx.training.loop import _check_shares
from phalanx.training.shelf import load_recipe
from phalanx.training.trainer import train

TRAIN = """
import sys
from phalanx.training.shelf import load_recipe
from phalanx.training.trainer import train

train(load_recipe("digits-gaussian", sys.argv[2:]), out=sys.argv[1], device="cpu", workers=1)
"""

NORMALISE = """
import sys, torch
from torch import nn
from phalanx.training.distributed import joined_team, share_batchnorm

torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2))
x, weight = torch.randn(7, 2, 6, 6), torch.randn(7, 2)
with joined_team("cpu") as (team, _):
    share_batchnorm(network, team, "cpu")
    rows = team.rows(7)
    for _ in range(2):
        network.zero_grad()
        output = network(x[rows])
        (output * weight[rows]).sum().backward()
        team.sum_gradients(network.parameters())
    evaluated = network.eval()(x)
    if team.leads:
        gradients = [parameter.grad for parameter in network.parameters()]
        torch.save([*gradients, *network.buffers(), evaluated], sys.argv[1])
"""


def run(script, arguments, world):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {
        **os.environ,
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(world)
    ]
    errors = [process.communicate(timeout=200)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * world, errors


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    changes = ["model.options.hidden=[16]", "members=1", "epochs=2", "data.augment=flip-crop"]
    [alone] = train(load_recipe("digits-gaussian", changes))
    run(TRAIN, [str(tmp_path), *changes], world=2)
    shared = checkpoint.load(tmp_path / "weights" / "member-0")
    curves = [model.card.extra["history"] for model in (alone, shared)]
    for one, two in zip(*curves, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["noisy_accuracy"] == pytest.approx(one["noisy_accuracy"], abs=0.002)
    for name, value in alone.network.state_dict().items():
        assert torch.allclose(shared.network.state_dict()[name], value, rtol=0, atol=1e-4), name


@pytest.mark.slow
def test_batch_normalisation_is_that_of_the_whole_batch(tmp_path):
    for world in (1, 2):
        run(NORMALISE, [str(tmp_path / str(world))], world)
    alone, shared = (torch.load(tmp_path / str(world), weights_only=True) for world in (1, 2))
    for one, two in zip(alone, shared, strict=True):
        assert torch.allclose(two.float(), one.float(), rtol=1e-4, atol=1e-5)


def test_shares_cover_a_batch_once():
    for count in (2, 7, 64):
        shares = [list(range(count))[Team(rank, 3).rows(count)] for rank in range(3)]
        assert [row for share in shares for row in share] == list(range(count))


def test_a_batch_too_small_to_share_is_refused(tiny):
    recipe = tiny.model_copy(update={"batch": 64})
    with pytest.raises(DataError, match="1 images for 2 processes"):
        _check_shares(65, recipe, world=2)


def test_torchrun_needs_a_folder_and_its_variables(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match="--out DIR"):
        train(tiny)
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigurationError, match="RANK"):
        train(tiny, out=tmp_path)
