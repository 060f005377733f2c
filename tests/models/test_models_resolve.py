"""MODEL strings, and what is said about a model that says nothing itself."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace

import pytest
import torch
from torch import nn

from phalanx.errors import CheckpointError, ModelError
from phalanx.models.build import build
from phalanx.models.checkpoint import save
from phalanx.models.declaration import Declaration, card_beside, wrap
from phalanx.models.digest import model_identity, weights_digest
from phalanx.models.model import InputSpec, Model, ModelCard
from phalanx.models.resolve import resolve, resolve_all

SAID = Declaration(input_range=(0, 1), classes=3, normalised_inside=True)
FACTORY = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, bias=0.5):
            super().__init__()
            self.layer = nn.Linear(4, 3)
            torch.nn.init.constant_(self.layer.weight, bias)

        def forward(self, x):
            return self.layer(x.flatten(1))

    def good():
        return Net().eval()

    def training():
        return Net()

    def broken():
        return Net(bias=1 / 0)

    def leaves():
        raise SystemExit("bye")

    def number():
        return 3

    ready = Net().eval()
    text = "hello"
    """


@pytest.fixture
def factory(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(textwrap.dedent(FACTORY))
    return path


def checkpoint(folder, name):
    network = build("mlp", 3, (4,), hidden=[2], key=len(name))
    card = ModelCard(name, "mlp", {"hidden": [2]})
    return save(Model(network, InputSpec(shape=(4,)), 3, card), folder / name)


def test_a_factory_in_a_file(factory):
    model = resolve(f"{factory}:good", SAID)
    assert model(torch.ones(2, 4)).shape == (2, 3)
    assert model.card.name == "good"
    assert resolve(f"{factory}:ready", SAID).classes == 3


def test_a_factory_in_a_package(tmp_path, monkeypatch):
    folder = tmp_path / "their_package_4711"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "nets.py").write_text(textwrap.dedent(FACTORY))
    monkeypatch.chdir(tmp_path)
    assert resolve("their_package_4711.nets:good", SAID).classes == 3


def test_a_file_may_import_its_neighbours(tmp_path):
    (tmp_path / "neighbour_4712.py").write_text("WIDTH = 4\n")
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom neighbour_4712 import WIDTH\n"
        "def make():\n    import neighbour_4712\n    return nn.Linear(WIDTH, 3).eval()\n"
    )
    assert resolve(f"{tmp_path}/net.py:make", SAID).classes == 3


def test_a_factory_may_return_a_model(tmp_path):
    (tmp_path / "net.py").write_text(
        "import phalanx\nfrom torch import nn\n"
        "def make():\n"
        "    return phalanx.Model(nn.Linear(4, 3).eval(), phalanx.InputSpec((-1, 1)), 3)\n"
    )
    assert resolve(f"{tmp_path}/net.py:make").inputs.range == (-1, 1)
    with pytest.raises(ModelError, match="carries input_range"):
        resolve(f"{tmp_path}/net.py:make", Declaration(input_range=(0, 1)))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("broken", r"ZeroDivisionError: division by zero; at .*net.py:\d+ in broken: return Net"),
        ("leaves", "SystemExit: bye"),
        ("number", "returned int"),
        ("text", "is str, not a function"),
        ("missing", "has no 'missing'.*good"),
        ("Net", "training mode"),
        ("training", r"training mode.*call \.eval\(\)"),
    ],
)
def test_factories_that_fail(factory, name, says):
    with pytest.raises(ModelError, match=says):
        resolve(f"{factory}:{name}", SAID)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import not_there_at_all", "ModuleNotFoundError.*at .*bad.py:1"),
        ("def f(:", "SyntaxError.*at .*bad.py:1"),
        ("raise KeyboardInterrupt", None),
    ],
)
def test_files_that_fail(tmp_path, code, says):
    (tmp_path / "bad.py").write_text(code)
    if says is None:
        with pytest.raises(KeyboardInterrupt):
            resolve(f"{tmp_path}/bad.py:f", SAID)
    else:
        with pytest.raises(ModelError, match=says):
            resolve(f"{tmp_path}/bad.py:f", SAID)


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("nothing", ModelError, "file.py:factory"),
        ("missing.py:make", ModelError, "there is no file"),
        ("no_such_package_4713.nets:make", ModelError, "no Python module"),
        ("net.onnx", ModelError, "cannot be read"),
        ("resnet20", ModelError, "resnet20 --weights FILE"),
        ("gone.safetensors", CheckpointError, "no checkpoint"),
    ],
)
def test_names_that_name_nothing(spec, error, says):
    with pytest.raises(error, match=says):
        resolve(spec, SAID)


def test_weights_without_a_network(tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="resnet110 --weights"):
        resolve(str(tmp_path / "w.pt"))


def test_folders_of_checkpoints_in_natural_order(tmp_path):
    for index in (10, 0, 2):
        checkpoint(tmp_path / "weights", f"member-{index}")
    models = resolve_all([str(tmp_path)])
    assert [model.card.name for model in models] == ["member-0", "member-2", "member-10"]
    assert (
        len(resolve_all([str(tmp_path / "weights"), str(tmp_path / "weights" / "member-2")])) == 4
    )
    with pytest.raises(ModelError, match="3 models where one"):
        resolve(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoints"):
        resolve(str(tmp_path / "empty"))


def test_a_checkpoint_is_not_overruled(tmp_path):
    path = str(checkpoint(tmp_path, "m"))
    assert resolve(path, Declaration(classes=3)).classes == 3
    with pytest.raises(ModelError, match="carries classes 3, and 4 was declared"):
        resolve(path, Declaration(classes=4))
    with pytest.raises(ModelError, match="weights of its own"):
        resolve(path, Declaration(weights=tmp_path / "x.pt"))


def test_weights_for_a_factory(factory, tmp_path):
    state = {"layer.weight": torch.full((3, 4), 2.0), "layer.bias": torch.zeros(3)}
    torch.save({"state_dict": state}, tmp_path / "w.pt")
    said = Declaration((0, 1), classes=3, normalised_inside=True, weights=tmp_path / "w.pt")
    assert resolve(f"{factory}:training", said)(torch.ones(1, 4)).tolist() == [[8.0] * 3]


def weights_file(folder, name, value):
    state = {"layer.weight": torch.full((3, 4), value), "layer.bias": torch.zeros(3)}
    torch.save(state, folder / name)
    return folder / name


def values(models):
    return [model(torch.ones(1, 4))[0, 0].item() for model in models]


def test_each_network_brings_its_weights(factory, tmp_path):
    (tmp_path / "lr=0.1").mkdir()
    a, b = weights_file(tmp_path, "a.pt", 1.0), weights_file(tmp_path / "lr=0.1", "b.pt", 2.0)
    net = f"{factory}:good"
    assert values(resolve_all([f"{net}={a}", f"{net}={b}"], SAID)) == [4.0, 8.0]
    one = replace(SAID, weights=b)
    assert values(resolve_all([f"{net}={a}", net], one)) == [4.0, 8.0]
    assert values(resolve_all([net], one)) == [8.0]


def test_built_in_networks_bring_their_weights(tmp_path):
    files = []
    for key in (1, 2):
        files.append(tmp_path / f"{key}.pt")
        torch.save(build("resnet20", 10, (3, 32, 32), key=key).state_dict(), files[-1])
    said = Declaration((0, 1), normalised_inside=True)
    first, second = resolve_all([f"resnet20={file}" for file in files], said)
    assert weights_digest(first.network) != weights_digest(second.network)
    mixed = [f"resnet20={files[0]}", "resnet20"]
    again = resolve_all(mixed, replace(said, weights=files[1]))
    assert [model_identity(m) for m in again] == [model_identity(m) for m in (first, second)]


@pytest.mark.parametrize(
    ("specs", "says"),
    [
        (["resnet20", "resnet20"], "one file for 2 networks.*resnet20=FILE resnet20=FILE"),
        (["resnet20", "net.py:make"], r"one file for 2 networks.*net.py:make=FILE"),
        (["resnet20=a.pt"], "resnet20=a.pt has weights of its own"),
        (["resnet20=a.pt", "m.safetensors"], "resnet20=a.pt has weights of its own"),
        (["nothing"], "there is no model 'nothing'"),
        (["nothing=a.pt", "resnet20"], "there is no model 'nothing'"),
    ],
)
def test_one_file_is_for_one_network(specs, says, tmp_path):
    with pytest.raises(ModelError, match=says):
        resolve_all(specs, replace(SAID, weights=weights_file(tmp_path, "w.pt", 1.0)))


def test_weights_that_are_not_there():
    with pytest.raises(CheckpointError, match=r"no weights file gone\.pt"):
        resolve("resnet20=gone.pt", SAID)
    with pytest.raises(ModelError, match="there is no model 'resnet20='"):
        resolve("resnet20=", SAID)


@pytest.mark.parametrize("suffix", ["json", "yaml", "yml"])
def test_a_card_beside_the_file(factory, suffix):
    card = {"input_range": [0, 255], "classes": 3, "mean": [127.5], "std": [64.0], "sigma": 0.5}
    factory.with_name(f"net.card.{suffix}").write_text(json.dumps(card))
    model = resolve(f"{factory}:good")
    assert (model.inputs.range, model.inputs.mean, model.sigma) == ((0, 255), (127.5,), 0.5)
    said = Declaration(input_range=(0, 1), normalised_inside=True)
    assert resolve(f"{factory}:good", said).inputs == InputSpec((0, 1))


@pytest.mark.parametrize(
    "text", ["{", "a: &a [1]\nb: *a", "colour: blue", "classes: many", "- 1", "x" * 70_000]
)
def test_cards_that_cannot_be_read(factory, text):
    factory.with_name("net.card.yaml").write_text(text)
    with pytest.raises(ModelError, match="card"):
        card_beside(factory)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (Declaration(), "--input-range 0 1 --classes 3 --normalised-inside"),
        (Declaration(input_range=(-1, 1)), "--input-range -1 1 --classes 3"),
        (Declaration((0, 1), classes=3), "--mean 0.4914,0.4822,0.4465 --std"),
        (Declaration((0, 1), (0.5,), (0.5,), 3, True), "normalised twice"),
        (Declaration((1, 0), classes=3, normalised_inside=True), "increasing order"),
        (Declaration((0, float("nan")), classes=3, normalised_inside=True), "increasing order"),
        (Declaration((0, 1), (0.5,), (0.0,), 3), "above 0"),
        (Declaration((0, 1), (0.5, 0.5), (0.5,), 3), "2 means and 1 standard"),
        (Declaration((0, 1), (0.5,) * 2, (1,) * 2, 3, shape=(3, 4, 4)), "one for each of 3"),
        (Declaration((0, 1), classes=1, normalised_inside=True), "at least 2"),
    ],
)
def test_declarations(said, says):
    with pytest.raises(ModelError, match=says):
        wrap(nn.Linear(4, 3), said)


def test_normalisation_of_flat_inputs():
    said = Declaration((0, 1), (1.0, 2.0), (1.0, 2.0), 2, shape=(2,))
    assert wrap(nn.Identity(), said)(torch.tensor([[1.0, 4.0]])).tolist() == [[0.0, 1.0]]
