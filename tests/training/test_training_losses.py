"""Every registered loss under the trainer; an interrupted run ends with the same bits."""

import math
import os
import signal
from dataclasses import replace

import pytest
import torch

from phalanx.errors import Interrupted, TrainingError
from phalanx.losses import build_loss, losses
from phalanx.training import loop
from phalanx.training.events import Step
from phalanx.training.folder import TrainingFolder
from phalanx.training.shelf import make_recipe
from phalanx.training.state import read_state
from phalanx.training.trainer import train


def recipe(name, data):
    return make_recipe(
        {
            "data": {"name": data},
            "model": {"name": "mlp", "options": {"hidden": [12]}},
            "members": 2 if build_loss(name, {"sigma": 0.25}).coupled else 1,
            "loss": {"name": name, "sigma": 0.25},
            "epochs": 2,
            "batch": 13,
            "precision": "fp32",
        }
    )


class Stop:
    """A watch that presses Ctrl-C once, after the seventh step."""

    left = 7

    def __call__(self, event):
        self.left -= isinstance(event, Step)
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("name", losses.names())
def test_an_interrupted_training_ends_with_the_same_bits(name, numpy_file, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)
    monkeypatch.setattr(loop, "EVENT_SECONDS", -1.0)
    wanted = recipe(name, numpy_file(labelled=True))
    whole = train(wanted, workers=1)
    with pytest.raises(Interrupted):
        train(wanted, out=tmp_path, workers=1, watch=Stop())
    resumed = train(wanted, out=tmp_path, workers=1)
    assert [m.card.digest for m in resumed] == [m.card.digest for m in whole]
    assert resumed[0].card.extra["history"] != []


@pytest.mark.parametrize("name", losses.names())
def test_a_loss_that_is_not_finite_ends_the_training_at_its_last_good_state(
    name, numpy_file, tmp_path, monkeypatch
):
    wanted = recipe(name, numpy_file(labelled=True))
    whole = train(wanted, workers=1)
    kind = type(build_loss(name, {"sigma": 0.25}))
    healthy = kind.__call__

    def broken(self, members, batch):
        output = healthy(self, members, batch)
        return replace(output, loss=output.loss * (math.nan if batch.progress >= 1 else 1.0))

    with monkeypatch.context() as patch:
        patch.setattr(kind, "__call__", broken)
        with pytest.raises(TrainingError, match=r"diverged in epoch 2: the loss is not finite"):
            train(wanted, out=tmp_path, workers=1)
    state, weights, _ = read_state(TrainingFolder(tmp_path).state(wanted.groups()[0]))
    assert (state.epoch, state.step) == (1, 0)
    assert all(torch.isfinite(values).all() for values in weights.values())
    resumed = train(wanted, out=tmp_path, workers=1)
    assert [m.card.digest for m in resumed] == [m.card.digest for m in whole]
