"""``phalanx doctor`` from the outside."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from phalanx.cli import doctor
from phalanx.errors import CheckpointError, GraphError, ModelError
from phalanx.models.build import build
from phalanx.models.checkpoint import save
from phalanx.models.model import InputSpec, Model, ModelCard


@pytest.fixture
def run():
    app = typer.Typer()
    app.callback()(lambda: None)
    doctor.register(app)
    return lambda *words: CliRunner().invoke(app, ["doctor", *map(str, words)])


@pytest.fixture
def checkpoint(tmp_path):
    network = build("mlp", 10, (1, 8, 8), hidden=[4])
    card = ModelCard("digits", "mlp", {"hidden": [4]}, sigma=0.25)
    return save(Model(network, InputSpec(shape=(1, 8, 8)), 10, card), tmp_path / "net")


def test_a_checkpoint_on_data(run, checkpoint):
    result = run(checkpoint, "--data", "digits", "--limit", 32, "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["usable"]
    checks = {f["check"]: f["level"] for f in answer["models"][0]["findings"]}
    assert checks["function"] == checks["weights"] == "ok"
    assert "accuracy" in result.stdout


def test_text(run, checkpoint):
    result = run(checkpoint)
    assert result.exit_code == 0
    assert result.stdout.startswith("digits\n")
    assert "trained for sigma 0.25" in result.stdout


def test_an_unusable_model_is_examined_and_refused(run, tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\ndef make(): return nn.Linear(64, 10)\n")
    words = ("--input-range", 0, 1, "--classes", 10, "--normalised-inside")
    result = run(f"{tmp_path}/net.py:make", *words)
    assert isinstance(result.exception, ModelError)
    assert result.exception.exit_code == 3
    assert "training mode" in result.stdout
    assert "call .eval()" in result.stdout


WORDS = ("--input-range", 0, 1, "--classes", 6, "--normalised-inside")


def odd_file(path):
    """A matrix, ELU, the largest of all."""
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="product"),
        helper.make_node("Elu", ["a"], ["b"], name="bent"),
        helper.make_node("ReduceMax", ["b"], ["m"], name="largest", axes=[1]),
        helper.make_node("Sub", ["b", "m"], ["y"], name="less"),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
        for name, size in (("x", 4), ("y", 6))
    )
    weight = numpy_helper.from_array(np.ones((4, 6), np.float32), "w")
    graph = helper.make_graph(nodes, "net", [x], [y], [weight])
    opset = [helper.make_opsetid("", 13)]
    path.write_bytes(helper.make_model(graph, opset_imports=opset).SerializeToString())
    return path


def test_a_file_that_is_not_read_is_examined_and_refused(run, tmp_path):
    result = run(odd_file(tmp_path / "odd.onnx"), *WORDS)
    assert isinstance(result.exception, ModelError)
    assert result.exception.exit_code == 3
    lines = [line.split(maxsplit=9) for line in result.stdout.splitlines()]
    rows = {line[0]: line[1:] for line in lines if len(line) > 8}
    assert rows["product"] == ["linear", *["exact"] * 7]
    assert rows["bent"][:8] == ["Elu", *["no"] * 7]
    assert rows["bent"][8].startswith("write relu(x) + alpha")
    assert rows["largest"][8].startswith("max-pool")
    assert rows["less"] == ["sub", *["exact"] * 7]
    assert "error   model: node 'bent' (Elu) is not supported" in result.stdout
    assert "the torch module it was exported from" in result.stdout


def test_files_that_are_read_are_examined_beside_it(run, checkpoint, tmp_path):
    odd = odd_file(tmp_path / "odd.onnx")
    result = run(checkpoint, odd, "--json")
    answer = json.loads(result.stdout)
    assert not answer["usable"]
    assert [model["name"] for model in answer["models"]] == [str(odd), "digits"]
    assert {layer["branching"] for model in answer["models"] for layer in model["layers"]} == {
        *("exact", "sign", "no"),
    }


def test_a_module_with_unread_layers_is_usable(run, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.Linear(4, 6), nn.ELU()).eval()\n"
    )
    (tmp_path / "net.card.json").write_text(json.dumps({"shape": [4]}))
    result = run(f"{tmp_path}/net.py:make", *WORDS)
    assert result.exit_code == 0
    assert "1 of 2 layers cannot be bounded, first 'elu' (elu)" in result.stdout
    assert "branching" in result.stdout


@pytest.mark.parametrize(("classes", "says"), [(3, "input must be declared"), (1, "one output")])
def test_layers_are_told_of_a_file_whose_input_nobody_declares(run, tmp_path, classes, says):
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.ones((4, classes), dtype=np.float32), "w")
    ends = [helper.make_tensor_value_info(n, kind, [1, s]) for n, s in (("x", 4), ("y", classes))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    result = run(tmp_path / "net.onnx", "--json")
    assert isinstance(result.exception, ModelError)
    (told,) = json.loads(result.stdout)["models"]
    assert [layer["op"] for layer in told["layers"]] == ["linear", "relu"]
    assert says in told["findings"][0]["says"]


def test_a_file_that_is_none_is_a_typed_error(run, tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"\x00\xff")
    result = run(tmp_path / "no.onnx", *WORDS)
    assert isinstance(result.exception, GraphError)
    assert not result.stdout


def test_a_model_that_cannot_be_read(run, checkpoint):
    checkpoint.write_bytes(b"")
    assert isinstance(run(checkpoint).exception, CheckpointError)
