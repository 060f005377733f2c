"""Checkpoints come back bit for bit, or with an error that names what is wrong."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from phalanx.errors import CheckpointError, StorageError
from phalanx.models.build import build
from phalanx.models.checkpoint import load, save
from phalanx.models.model import InputSpec, Model, ModelCard

SHAPE = (1, 4, 4)


def small(**card: object) -> Model:
    network = build("mlp", 3, SHAPE, key=11, hidden=[5])
    inputs = InputSpec((0.0, 1.0), (0.1,), (0.3,), SHAPE)
    fields = {"options": {"hidden": [5]}, "sigma": 0.25, "extra": {"recipe": {"epochs": 2}}}
    return Model(network, inputs, 3, ModelCard("small", "mlp", **(fields | card))).eval()


@pytest.fixture
def saved(tmp_path):
    return save(small(), tmp_path / "net-0.25")


def test_round_trip(saved):
    model = load(saved)
    x = torch.rand(6, *SHAPE)
    assert torch.equal(model(x), small()(x))
    assert not any(module.training for module in model.modules())
    assert model.card.sigma == 0.25
    assert model.card.extra == {"recipe": {"epochs": 2}}
    assert model.inputs == small().inputs
    assert load(saved.with_suffix("")).card == model.card


def test_batchnorm_statistics_survive(tmp_path):
    network = build("resnet20", 10, (3, 32, 32), key=1)
    network(torch.rand(4, 3, 32, 32))
    card = ModelCard("r", "resnet20")
    model = Model(network, InputSpec(shape=(3, 32, 32)), 10, card).eval()
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(load(save(model, tmp_path / "r"))(x), model(x))


def test_saving_leaves_two_files_only(saved):
    names = {path.name for path in saved.parent.iterdir()}
    assert names == {"net-0.25.safetensors", "net-0.25.card.json"}


def corrupt_bit(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def other_weights(path):
    save_as = dict(safetensors.torch.load_file(path))
    save_as["stranger"] = torch.zeros(1)
    safetensors.torch.save_file(save_as, path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (corrupt_bit, "not those its card describes"),
        (truncate, "truncated"),
        (lambda path: path.write_bytes(b""), "not a readable safetensors"),
        (lambda path: path.write_bytes(b"\x80\x04\x95"), "not a readable safetensors"),
        (other_weights, "not those its card describes"),
        (lambda path: path.unlink(), "there is no checkpoint"),
    ],
)
def test_damaged_weights(saved, damage, says):
    damage(saved)
    with pytest.raises(CheckpointError, match=says):
        load(saved)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "resnet9000"}, "resnet9000"),
        ({"options": {"hidden": [6]}}, "wrong shape: 1.weight is"),
        ({"options": {"hidden": [5, 5]}}, "missing: 5.weight"),
        ({"options": {"hidden": []}}, "unexpected: 3.bias"),
        ({"options": {"hidden": [10**7, 10**7]}}, "wrong shape"),
        ({"options": {"colour": 1}}, "colour"),
        ({"digest": "0" * 64}, "not those its card describes"),
        ({"digest": "?"}, "digest"),
        ({"format": 99}, "format 99"),
        ({"classes": 1}, "classes"),
        ({"sigma": -1}, "sigma"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_cards_that_do_not_fit(saved, change, says):
    path = saved.with_name("net-0.25.card.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=says):
        load(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_cards_that_are_not_cards(saved, text):
    saved.with_name("net-0.25.card.json").write_text(text)
    with pytest.raises(CheckpointError, match="card"):
        load(saved)


def test_missing_card(saved):
    saved.with_name("net-0.25.card.json").unlink()
    with pytest.raises(CheckpointError, match=r"is missing.*keep NAME.safetensors"):
        load(saved)


def test_a_network_without_a_name_is_not_saved(tmp_path):
    with pytest.raises(CheckpointError, match="names no architecture"):
        save(Model(*_bare()), tmp_path / "x")
    assert not list(tmp_path.iterdir())


def _bare():
    return torch.nn.Linear(2, 3), InputSpec(shape=(2,)), 3


def test_a_disk_that_refuses(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        save(small(), tmp_path / "file" / "net")
