"""Members trained alone first, then together."""

import os
import signal

import pytest

from phalanx.errors import ConfigurationError, Interrupted
from phalanx.models import checkpoint
from phalanx.training import loop
from phalanx.training.events import EpochEnd, Step
from phalanx.training.shelf import make_recipe
from phalanx.training.trainer import plan_training, train


def recipe(data, **changes):
    fields = {
        "data": {"name": data},
        "model": {"name": "mlp", "options": {"hidden": [12]}},
        "members": 2,
        "loss": {"name": "drt", "sigma": 0.25, "base": {"name": "consistency", "lbd": 3.0}},
        "epochs": 2,
        "batch": 13,
        "precision": "fp32",
        "pretrain": {"epochs": 3},
    }
    return make_recipe({**fields, **changes})


@pytest.fixture
def data(numpy_file):
    return numpy_file(labelled=True)


def digests(models):
    return [model.card.digest for model in models]


def test_the_first_stage_is_the_base_alone(data, tmp_path):
    wanted = recipe(data)
    train(wanted, out=tmp_path, workers=1)
    base = {"name": "consistency", "sigma": 0.25, "lbd": 3.0}
    alone = train(recipe(data, loss=base, epochs=3, pretrain=None), workers=1)
    first = [
        checkpoint.load(tmp_path / "pretrain/weights" / f"member-{m}.safetensors") for m in (0, 1)
    ]
    assert digests(first) == digests(alone)
    assert len((tmp_path / "pretrain/training.jsonl").read_text().splitlines()) == 2 * 3
    assert len((tmp_path / "training.jsonl").read_text().splitlines()) == 2


def test_the_second_stage_begins_where_the_first_ends(data, tmp_path):
    still = recipe(
        data, optimizer={"lr": 1e-30, "momentum": 0.0}, pretrain={"epochs": 3, "optimizer": {}}
    )
    moved = train(still, out=tmp_path, workers=1)
    for member, model in enumerate(moved):
        before = checkpoint.load(tmp_path / f"pretrain/weights/member-{member}.safetensors")
        for old, new in zip(before.parameters(), model.parameters(), strict=True):
            assert (old - new).abs().max() == 0
    assert moved[0].card.extra["recipe"]["pretrain"]["epochs"] == 3


class StopAt:
    """A watch that presses Ctrl-C at the n-th step."""

    def __init__(self, step):
        self.left = step

    def __call__(self, event):
        if isinstance(event, Step):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("step", [7, 20, 33])
def test_an_interruption_in_either_stage_changes_no_bit(data, tmp_path, monkeypatch, step):
    monkeypatch.setattr(loop, "EVENT_SECONDS", -1.0)
    whole = train(recipe(data), workers=1)
    with pytest.raises(Interrupted):
        train(recipe(data), out=tmp_path, workers=1, watch=StopAt(step))
    assert digests(train(recipe(data), out=tmp_path, workers=1)) == digests(whole)


def test_epochs_are_counted_by_stage(data):
    seen = []
    train(recipe(data), workers=1, watch=seen.append)
    ends = [
        (one.members, one.row["epoch"], one.epochs) for one in seen if isinstance(one, EpochEnd)
    ]
    alone = [((member,), epoch, 3) for member in (0, 1) for epoch in (1, 2, 3)]
    assert ends == [*alone, ((0, 1), 1, 2), ((0, 1), 2, 2)]


def test_a_plan_names_both_stages(data):
    assert plan_training(recipe(data), None, "cpu", 1)["pretrain_epochs"] == 3


def test_a_changed_first_stage_is_refused(data, tmp_path):
    train(recipe(data), out=tmp_path, workers=1)
    with pytest.raises(ConfigurationError, match=r"pretrain.epochs: 3 -> 4"):
        train(recipe(data, pretrain={"epochs": 4}), out=tmp_path, workers=1)


def test_a_loss_that_does_not_couple_must_say_what_comes_first(data):
    plain = {"name": "gaussian", "sigma": 0.25}
    with pytest.raises(ConfigurationError, match=r"pretrain.loss is missing"):
        recipe(data, loss=plain)
    staged = recipe(
        data, loss=plain, pretrain={"epochs": 1, "loss": {"name": "stability", "sigma": 0.25}}
    )
    assert staged.first().loss.name == "stability"
