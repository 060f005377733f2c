"""An ONNX file is a model: named, declared, identified, certified, diagnosed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from phalanx.errors import ModelError  # noqa: E402
from phalanx.graph.run import run  # noqa: E402
from phalanx.graph.simplify import simplify  # noqa: E402
from phalanx.models.digest import model_identity  # noqa: E402
from phalanx.models.imported import graph_of  # noqa: E402
from phalanx.models.model import InputSpec, Model  # noqa: E402
from phalanx.models.resolve import Declaration, resolve  # noqa: E402

SAID = Declaration(input_range=(0, 1), normalised_inside=True)
WORDS = ("--input-range", 0, 1, "--normalised-inside")


def saved(path: Path, seed: int = 0, bias: float = 0.0) -> Path:
    """A linear classifier of 8x8 digits that reads vectors, as the benchmarks' networks do."""
    rng = np.random.default_rng(seed)
    weight, shift = rng.normal(size=(10, 64)), np.full(10, bias)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w", "b"], ["y"], name="classify", transB=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])
    stored = [
        numpy_helper.from_array(value.astype(np.float32), name)
        for name, value in (("w", weight), ("b", shift))
    ]
    graph = helper.make_graph(nodes, "net", [x], [y], stored)
    opset = [helper.make_opsetid("", 13)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    )
    return path


def test_a_file_is_a_model(tmp_path: Path) -> None:
    model = resolve(str(saved(tmp_path / "net.onnx")), SAID)
    assert (model.classes, model.card.name, model.training) == (10, "net", False)
    images = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(model(images), model(images.view(3, 64, 1)))


def test_its_identity_is_its_weights(tmp_path: Path) -> None:
    one, same = (resolve(str(saved(tmp_path / name)), SAID) for name in ("a.onnx", "b.onnx"))
    other = resolve(str(saved(tmp_path / "c.onnx", bias=1e-3)), SAID)
    assert model_identity(one) == model_identity(same)
    assert model_identity(one) != model_identity(other)


def test_a_card_beside_it_declares(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.onnx")
    card = {"input_range": [0, 1], "normalised_inside": True, "sigma": 0.5}
    (tmp_path / "net.card.json").write_text(json.dumps(card))
    assert resolve(str(path)).sigma == 0.5


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (Declaration(), "--input-range 0 1 --classes 10"),
        (Declaration(input_range=(0, 1), normalised_inside=True, classes=3), "--classes 10"),
        (Declaration(weights=Path("w.pt")), "weights of its own"),
    ],
)
def test_refusals(tmp_path: Path, said: Declaration, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        resolve(str(saved(tmp_path / "net.onnx")), said)


def test_certify_diagnose_and_doctor_take_it(tmp_path: Path, command) -> None:
    paths = [saved(tmp_path / f"{i}.onnx", seed=i) for i in range(2)]
    code, out, err = command("doctor", paths[0], *WORDS, "--json")
    assert code == 0, err
    assert json.loads(out)["usable"]
    budget = ("--sigma", 0.25, "--limit", 2, "--data", "digits")
    code, out, err = command(
        "certify", *paths, *WORDS, *budget, "--set", "n=100", "--out", tmp_path / "run", "--json"
    )
    assert code == 0, err
    few = ("--samples", 100, "--gradient-samples", 32, "--transfer-samples", 0)
    code, out, err = command("diagnose", *paths, *WORDS, *budget, *few)
    assert code == 0, err


def test_the_graph_of_a_model_has_its_normalisation_inside() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)).eval()
    spec = InputSpec(mean=(0.5, 0.4), std=(0.25, 0.5), shape=(2, 4, 4))
    model = Model(network, spec, 4)
    graph, x = graph_of(model), torch.rand(3, 2, 4, 4)
    assert [node.op for node in graph][:4] == ["input", "scale", "quotient", "conv"]
    assert [node.op for node in simplify(graph)] == ["input", "conv", "relu", "reshape", "linear"]
    torch.testing.assert_close(run(graph, x), model(x), rtol=1e-5, atol=1e-5)


def test_the_graph_of_an_imported_model_reads_images(tmp_path: Path) -> None:
    model = resolve(str(saved(tmp_path / "net.onnx")), SAID)
    graph, x = graph_of(model, (1, 8, 8)), torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(run(graph, x), model(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(ModelError, match="not \\(3, 8, 8\\)"):
        graph_of(model, (3, 8, 8))


def test_a_model_of_unknown_shape_has_no_graph() -> None:
    with pytest.raises(ModelError, match="input shape"):
        graph_of(Model(nn.Linear(3, 2).eval(), InputSpec(), 2))
