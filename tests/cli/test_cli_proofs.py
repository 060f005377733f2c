"""``verify --proof`` and ``runs recheck`` of a proof: words, exit codes, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

BOX = """(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)
(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 -1))(assert (<= X_1 1))
"""


def net(folder: Path, curve: str = "Relu") -> Path:
    """``y = relu(x_0 + x_1) + 0.5``."""
    helper, numbers = onnx.helper, onnx.numpy_helper
    tensors = {"w": [[1.0], [1.0]], "b": [0.0], "half": [0.5]}
    initial = [numbers.from_array(np.float32(value), name) for name, value in tensors.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node(curve, ["h"], ["r"], name="curve"),
        helper.make_node("Add", ["r", "half"], ["y"]),
    ]
    kind = onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(n, kind, [1, s]) for n, s in (("x", 2), ("y", 1))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / f"{curve}.onnx").write_bytes(model.SerializeToString())
    return folder / f"{curve}.onnx"


def query(folder: Path, level: float) -> Path:
    """Unsafe where the output reaches a level; at most 2.5 is reached."""
    path = folder / f"{level}.vnnlib"
    path.write_text(f"{BOX}(assert (>= Y_0 {level}))")
    return path


@pytest.mark.parametrize(("level", "word"), [(2.6, "unsat"), (2.25, "sat")])
def test_a_proof_is_written_and_holds(
    level: float, word: str, tmp_path: Path, command: Callable[..., Any]
) -> None:
    files, proof = (net(tmp_path), query(tmp_path, level)), tmp_path / "p.safetensors"
    code, out, err = command("verify", *files, "--timeout", 60, "--proof", proof)
    assert (code, out.split()[0]) == (0, word)
    assert f"proof of {word}" in err
    about = ("--network", files[0], "--property", files[1])
    code, out, _ = command("runs", "recheck", proof, *about)
    assert (code, out.startswith(f"proof holds: {word}, 1 case, ")) == (0, True)
    code, out, _ = command("runs", "recheck", proof, *about, "--json")
    assert json.loads(out)["holds"] is True
    other = ("--network", files[0], "--property", query(tmp_path, 2.0))
    code, out, _ = command("runs", "recheck", proof, *other)
    assert (code, out.startswith("proof does not hold: the property: ")) == (5, True)
    code, out, _ = command("runs", "recheck", proof, *other, "--json")
    assert (code, json.loads(out)["holds"]) == (5, False)


def test_a_proof_needs_what_it_is_about(tmp_path: Path, command: Callable[..., Any]) -> None:
    (tmp_path / "p.safetensors").write_bytes(b"no proof")
    code, _, err = command("runs", "recheck", tmp_path / "p.safetensors")
    assert code == 2
    assert "--network net.onnx --property p.vnnlib" in err
    about = ("--network", net(tmp_path), "--property", query(tmp_path, 2.6))
    code, _, err = command("runs", "recheck", tmp_path / "p.safetensors", *about)
    assert (code, "is no proof" in err) == (3, True)


def test_what_cannot_be_proven_is_refused(tmp_path: Path, command: Callable[..., Any]) -> None:
    asked = query(tmp_path, 2.6)
    code, _, err = command("verify", "net.pt", asked, "--proof", tmp_path / "p")
    assert (code, "a proof is about an ONNX file" in err) == (2, True)
    code, _, err = command("verify", net(tmp_path), asked, "--proof", tmp_path / "no" / "p")
    assert code == 2
    code, out, err = command("verify", net(tmp_path, "Tanh"), asked, "--proof", tmp_path / "p")
    assert (code, out) == (3, "")
    assert "(tanh) is not checked" in err
    assert not (tmp_path / "p").exists()


def test_a_proof_has_the_time_that_is_left(
    tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer stands, and it is said that there is no proof; the file is not begun."""
    from phalanx.runtime import age
    from phalanx.verify import proving
    from phalanx.verify.proof.broken import ProofBroken

    def slow(*given: Any) -> None:
        while not given[4]():
            time.sleep(0.01)
        raise ProofBroken("a tree of boxes", "planted")

    monkeypatch.setattr(age, "LONGEST_START", 0.0)
    monkeypatch.setattr(proving, "proof_for", slow)
    files, proof = (net(tmp_path), query(tmp_path, 2.6)), tmp_path / "p.safetensors"
    code, out, err = command("verify", *files, "--timeout", 4, "--proof", proof)
    assert (code, out, proof.exists()) == (5, "unsat\n", False)
    assert "no proof is written" in err
    assert "there was no time left" in err


def test_a_proof_that_looks_at_no_clock_is_ended() -> None:
    """From the process beside it, or by a thread; the answer was printed before."""
    text = """
import time
from phalanx.cli.deadline import Known, keep_time
known = keep_time(0.5, str.upper, str)
known.tell(Known.ANSWERING)
print("unsat", flush=True)
known.tell(Known.ANSWERED)
known.tell(Known.ANSWERING, False)
time.sleep(60)
"""
    threads = text.replace("import time", "import time, threading")
    beside = "threading.Thread(target=time.sleep, args=(9,), daemon=True).start();known ="
    for code in (text, threads.replace("known =", beside)):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False
        )
        assert (done.returncode, done.stdout) == (5, "unsat\n"), done.stderr
        assert "no proof is written" in done.stderr


@pytest.mark.parametrize("kind", [RuntimeError, TypeError, AttributeError, MemoryError, Exception])
def test_a_proof_that_fails_leaves_the_answer(
    kind: type[Exception],
    tmp_path: Path,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from phalanx.verify import proving

    def fail(*_: object) -> None:
        raise kind("planted")

    monkeypatch.setattr(proving, "proof_for", fail)
    files, proof = (net(tmp_path), query(tmp_path, 2.6)), tmp_path / "p.safetensors"
    code, out, err = command("verify", *files, "--timeout", 60, "--proof", proof)
    assert (code, out, proof.exists()) == (1, "unsat\n", False)
    assert "planted" in err
