"""Other people's state dicts, laid out as their code lays them out."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict

import pytest
import safetensors.torch
import torch

from phalanx.errors import CheckpointError, ModelError
from phalanx.models.build import build
from phalanx.models.declaration import Declaration
from phalanx.models.digest import weights_digest
from phalanx.models.resolve import resolve
from phalanx.models.weights import PUBLISHED_NORMALISATION, load_weights, match, read_state

CIFAR = PUBLISHED_NORMALISATION[(3, 32, 32), 10]


@pytest.fixture(scope="module")
def resnet():
    return build("resnet20", 10, (3, 32, 32), key=4).eval()


def published(network, prefix="1."):
    """As `train.py` of the published smoothing code saves it: Sequential(normalise, net)."""
    state = OrderedDict((prefix + key, value) for key, value in network.state_dict().items())
    return {"epoch": 90, "arch": "cifar_resnet20", "state_dict": state, "optimizer": {"lr": [0.1]}}


@pytest.mark.parametrize("prefix", ["", "module.", "1.", "1.module.", "module.1."])
def test_known_layouts(tmp_path, resnet, prefix):
    torch.save(published(resnet, prefix), tmp_path / "checkpoint.pth.tar")
    fresh = build("resnet20", 10, (3, 32, 32), key=5)
    matched = load_weights(fresh, tmp_path / "checkpoint.pth.tar")
    assert weights_digest(fresh) == weights_digest(resnet)
    assert matched.layers_in_front == ("1." in prefix)


def test_published_layout_brings_its_normalisation(tmp_path, resnet):
    torch.save(published(resnet), tmp_path / "c.pth.tar")
    model = resolve("resnet20", Declaration(weights=tmp_path / "c.pth.tar"))
    assert (model.inputs.mean, model.inputs.std) == CIFAR
    assert model.inputs.range == (0.0, 1.0)
    x = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in CIFAR)
    assert torch.equal(model(x), resnet((x - mean) / std))


def test_published_mnist_code_does_not_normalise(tmp_path):
    network = build("mnist-cnn", 10, (1, 28, 28), key=1).eval()
    torch.save(published(network), tmp_path / "c.pth.tar")
    model = resolve("mnist-cnn", Declaration(weights=tmp_path / "c.pth.tar"))
    assert (model.inputs.range, model.inputs.mean, model.inputs.std) == ((0, 1), (0,), (1,))
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(model(x), network(x))
    said = Declaration(weights=tmp_path / "c.pth.tar", mean=(0.5,), std=(0.5,), input_range=(0, 1))
    assert resolve("mnist-cnn", said).inputs.mean == (0.5,)


def test_normalisation_numbers_in_the_file_win(tmp_path, resnet):
    state = published(resnet)["state_dict"]
    state["0.means"], state["0.sds"] = torch.tensor([0.5, 0.25, 0.5]), torch.full((3,), 0.125)
    torch.save(state, tmp_path / "c.pt")
    model = resolve("resnet20", Declaration(weights=tmp_path / "c.pt"))
    assert model.inputs.mean == (0.5, 0.25, 0.5)
    assert model.inputs.std == (0.125,) * 3


def test_an_unknown_normalisation_layer_is_refused(tmp_path):
    network = build("mnist-cnn", 7, (1, 28, 28))
    torch.save(published(network), tmp_path / "c.pt")
    with pytest.raises(ModelError, match="normalisation layer whose numbers it omits"):
        resolve("mnist-cnn", Declaration(weights=tmp_path / "c.pt", classes=7))


def test_our_own_sequential_is_not_taken_for_a_layer_in_front():
    network = build("mnist-cnn", 10, (1, 28, 28))
    assert not match(network.state_dict(), network).layers_in_front


def test_plain_weights_need_a_declaration(tmp_path, resnet):
    torch.save(resnet.state_dict(), tmp_path / "c.pt")
    with pytest.raises(ModelError, match=r"--input-range 0 1 --classes 10 --normalised-inside"):
        resolve("resnet20", Declaration(weights=tmp_path / "c.pt"))
    said = Declaration((0, 1), weights=tmp_path / "c.pt", normalised_inside=True)
    assert resolve("resnet20", said).inputs.mean == ()


def test_other_names_of_the_same_layers(resnet):
    renamed = {
        key.replace("downsample", "shortcut").replace("fc.", "linear."): value
        for key, value in resnet.state_dict().items()
    }
    assert match(renamed, build("resnet20", 10, (3, 32, 32))).state.keys() == (
        resnet.state_dict().keys()
    )


def test_torchvision_names_of_resnet50():
    names = build("resnet50", 1000, (3, 224, 224)).state_dict().keys()
    for name in (
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.downsample.1.num_batches_tracked",
        "layer3.5.conv3.weight",
        "layer4.2.bn3.bias",
        "fc.weight",
    ):
        assert name in names
    assert len(names) == 320


def test_old_files_without_step_counters(resnet):
    old = {k: v for k, v in resnet.state_dict().items() if "num_batches" not in k}
    found = match(old, build("resnet20", 10, (3, 32, 32)))
    assert found.state.keys() == resnet.state_dict().keys()


def test_the_keys_that_did_not_match_are_named(tmp_path, resnet):
    state = dict(resnet.state_dict())
    state["fc.weight"] = torch.zeros(100, 64)
    state["head.bias"] = state.pop("fc.bias")
    safetensors.torch.save_file(state, tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_weights(build("resnet20", 10, (3, 32, 32)), tmp_path / "c.safetensors")
    for part in ("missing: fc.bias", "unexpected: head.bias", "fc.weight is (100, 64)"):
        assert part in str(caught.value)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def compressed(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c/data.pkl", b"\0" * 10_000)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda p: p.write_bytes(pickle.dumps(Bomb())), "a pickle where weights are expected"),
        (lambda p: torch.save(Bomb(), p), "a pickle where weights are expected"),
        (
            lambda p: torch.save({"state_dict": {}, "args": Bomb()}, p),
            "a pickle where weights are expected",
        ),
        (lambda p: p.write_bytes(b""), "not a readable weights file"),
        (lambda p: p.write_bytes(b"PK\x03\x04 nothing"), "not a readable weights|damaged|pickle"),
        (lambda p: p.write_text("epoch,loss\n1,2\n"), "weights"),
        (compressed, "compressed archive"),
        (lambda p: torch.save([1, 2], p), "holds no state dict"),
        (lambda p: torch.save({}, p), "holds no state dict"),
        (lambda p: torch.save({"w": torch.ones(1), "epoch": 3}, p), "more than weights: epoch"),
        (lambda p: None, "there is no weights file"),
    ],
)
def test_files_that_are_not_weights(tmp_path, write, says):
    write(tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=says):
        read_state(tmp_path / "w.pt")


def test_a_truncated_file(tmp_path, resnet):
    path = tmp_path / "w.pt"
    torch.save(resnet.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(CheckpointError):
        read_state(path)
