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

SCRIPT = """
import sys, torch
from phalanx.training.shelf import load_recipe
from phalanx.training.trainer import train

torch.set_num_threads(1)
train(load_recipe("digits-gaussian", sys.argv[2:]), out=sys.argv[1], device="cpu", workers=1)
"""


def together(out, changes, world=2):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {
        **os.environ,
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(out), *changes],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(world)
    ]
    errors = [process.communicate(timeout=200)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * world, errors
    return checkpoint.load(out / "weights" / "member-0")


@pytest.mark.parametrize(
    "changes",
    [
        ["model.options.hidden=[16]", "members=1", "epochs=3"],
        ["model={name: resnet20}", "members=1", "epochs=2", "batch=479", "optimizer.lr=0.02"],
        ["model={name: resnet20}", "members=1", "epochs=1", "batch=479", "data.augment=flip-crop"],
    ],
    ids=["mlp", "batchnorm", "augmented"],
)
def test_two_processes_train_what_one_does(tmp_path, changes):
    [alone] = train(load_recipe("digits-gaussian", changes))
    shared = together(tmp_path, changes)
    curves = [model.card.extra["history"] for model in (alone, shared)]
    for one, two in zip(*curves, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=2e-3)
        assert two["noisy_accuracy"] == pytest.approx(one["noisy_accuracy"], abs=0.01)
    for name, value in alone.network.state_dict().items():
        given = shared.network.state_dict()[name]
        assert torch.allclose(given.float(), value.float(), rtol=0.05, atol=5e-3), name


def test_shares_cover_a_batch_once():
    for count in (2, 7, 64):
        rows = [list(range(count))[Team(rank, 3).rows(count)] for rank in range(3)]
        assert sum(rows, []) == list(range(count))


def test_a_batch_too_small_to_share_is_refused():
    with pytest.raises(DataError, match="1 images for 2 processes"):
        _check_shares(images=65, batch=64, world=2)


def test_torchrun_needs_a_folder_and_its_variables(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match="--out DIR"):
        train(tiny)
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigurationError, match="RANK"):
        train(tiny, out=tmp_path)
