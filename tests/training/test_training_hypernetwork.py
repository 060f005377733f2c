"""Members with generated convolutions are trained, interrupted and saved like any others."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from phalanx.errors import ConfigurationError, Interrupted
from phalanx.models.checkpoint import load
from phalanx.models.hypernetwork import Generated
from phalanx.training import loop
from phalanx.training.events import Step
from phalanx.training.shelf import load_recipe, make_recipe
from phalanx.training.trainer import train

# One epoch is too little to learn anything.
pytestmark = pytest.mark.filterwarnings("ignore::phalanx.errors.CollapsedMember")


def recipe(loss="red", *, shared=True, **fields):
    sizes = {"unit": 8, "hidden": 6, "embedding": 5, "shared": shared}
    return make_recipe(
        {
            "data": {"name": "digits"},
            "model": {"name": "mnist-cnn", "options": {"hypernetwork": sizes}},
            "members": 2,
            "loss": {"name": loss, "sigma": 0.0},
            "optimizer": {"lr": 0.02},
            "epochs": 1,
            "batch": 256,
            "precision": "fp32",
            **fields,
        }
    )


class Stop:
    left = 3

    def __call__(self, event):
        self.left -= isinstance(event, Step)
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_shared_hypernetwork_learns_from_all_members_and_resumes_bit_by_bit(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)
    monkeypatch.setattr(loop, "EVENT_SECONDS", -1.0)
    wanted = recipe()
    whole = train(wanted, out=tmp_path / "whole", workers=1, device="cpu")
    assert whole[0].network.hypernetwork is whole[1].network.hypernetwork
    (common,) = (tmp_path / "whole" / "weights" / "shared").iterdir()
    assert common.suffix == ".safetensors"
    with pytest.raises(Interrupted):
        train(wanted, out=tmp_path / "parts", workers=1, device="cpu", watch=Stop())
    resumed = train(wanted, out=tmp_path / "parts", workers=1, device="cpu")
    assert [m.card.digest for m in resumed] == [m.card.digest for m in whole]
    assert whole[0].card.digest != whole[1].card.digest
    again = load(tmp_path / "whole" / "weights" / "member-1")
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(again(x), whole[1](x))


def test_without_sharing_every_member_has_its_own():
    models = train(recipe(shared=False), workers=1, device="cpu")
    first, second = (one.network for one in models)
    assert isinstance(first, Generated)
    assert not torch.equal(first.hypernetwork.rows, second.hypernetwork.rows)


def test_members_that_are_trained_alone_cannot_share():
    with pytest.raises(ConfigurationError, match="members are trained alone"):
        recipe("gaussian")
    with pytest.raises(ConfigurationError, match="no pretrain"):
        recipe(pretrain={"epochs": 1})
    with pytest.raises(ConfigurationError, match=r"hypernetwork.unit does not fit"):
        load_recipe("mnist-gaussian", ["model.options.hypernetwork.unit=0"])
