"""``phalanx verify`` where something fails: the first line is error, whatever it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

BOX = """(declare-const X_0 Real)(declare-const Y_0 Real)
(assert (>= X_0 -1))(assert (<= X_0 1))
"""
SAT, UNSAT = BOX + "(assert (>= Y_0 1.25))", BOX + "(assert (>= Y_0 1.6))"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``y = relu(x) + 0.5``."""
    helper, half = onnx.helper, onnx.numpy_helper.from_array(np.float32([0.5]), "half")
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Add", ["r", "half"], ["y"])]
    kind = onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, kind, [1, 1]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [half])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def own_of_onnxruntime(message: str) -> Exception:
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    return RuntimeException(message)


STAGES = {
    "property": ("phalanx.specs.vnnlib.read", UNSAT, []),
    "network": ("phalanx.verify.network.network_of", UNSAT, []),
    "attack": ("phalanx.verify.portfolio.falsified", SAT, ["--engine", "none"]),
    "bounds": ("phalanx.verify.portfolio.bounded", UNSAT, ["--engine", "none"]),
    "recheck": ("phalanx.verify.portfolio.recheck_cases", UNSAT, ["--engine", "none"]),
    "branch-and-bound": ("phalanx.verify.bab.search.split_inputs", UNSAT, None),
    "milp": ("phalanx.verify.engines.milp.encode", UNSAT, None),
    "smt": ("phalanx.verify.engines.smt.encode", UNSAT, None),
    "branch-and-bound-cuts": ("phalanx.verify.bab.lp.encode", UNSAT, None),
    "branch-and-bound-lp": ("phalanx.verify.bab.lp.encode", UNSAT, None),
    "replay": ("phalanx.verify.runtimes.OnnxRuntime.__call__", SAT, ["--engine", "none"]),
    "result": ("phalanx.verify.portfolio.Result", UNSAT, []),
    "answer": ("phalanx.verify.answers.answer_lines", UNSAT, []),
}
"""What is replaced, a question that needs it, and with which options; None: the engine alone."""

KINDS = (RuntimeError, TypeError, AttributeError, MemoryError, Exception, own_of_onnxruntime)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", STAGES)
def test_whatever_fails_is_an_error(
    stage: str,
    kind: Callable[[str], Exception],
    net: Path,
    tmp_path: Path,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, text, options = STAGES[stage]
    if options is None:
        import phalanx.verify.engine

        phalanx.verify.engine.engines.get(stage)  # its room is imported
        monkeypatch.setattr("phalanx.verify.portfolio.bounded", lambda *_, **__: iter(()))

    def fail(*_: object, **__: object) -> None:
        raise kind("planted")

    monkeypatch.setattr(place, fail)
    query = tmp_path / "p.vnnlib"
    query.write_text(text)
    chosen = ["--engine", stage] if options is None else options
    code, out, err = command("verify", net, query, "--timeout", 60, *chosen)
    assert (code in (1, 4), out) == (True, "error\n"), err
    assert "planted" in err
    assert code == 4 or "Traceback" in err


def planted(*_: object, **__: object) -> None:
    """A step that fails."""
    raise TypeError("planted")


def test_an_error_in_json(
    net: Path, tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phalanx.verify.network.network_of", planted)
    (tmp_path / "p.vnnlib").write_text(UNSAT)
    code, out, err = command("verify", net, tmp_path / "p.vnnlib", "--json")
    assert (code, json.loads(out)) == (1, {"answer": "error"})
    assert "planted" in err


def test_a_step_that_failed_is_in_json_beside_what_the_others_answer(
    net: Path, tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phalanx.verify.portfolio.falsified", planted)
    (tmp_path / "p.vnnlib").write_text(UNSAT)
    code, out, _ = command("verify", net, tmp_path / "p.vnnlib", "--json")
    found = json.loads(out)
    assert (code, found["answer"], found["failures"]) == (0, "unsat", ["TypeError: planted"])


def test_what_onnxruntime_fails_with_is_a_typed_error(
    net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from phalanx.errors import ModelError
    from phalanx.verify.network import network_of

    class Failing:
        def __init__(self, session: Any) -> None:
            self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs

        def run(self, *_: object) -> None:
            raise own_of_onnxruntime("planted")

    network = network_of(net)
    x = torch.zeros(1, dtype=torch.float64)
    assert network.runtime(x)[0].tolist() == [0.5]
    monkeypatch.setattr(network.runtime, "_session", Failing(network.runtime._started()))
    with pytest.raises(ModelError, match="planted"):
        network.runtime(x)
