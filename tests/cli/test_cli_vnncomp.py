"""``phalanx supports`` and ``phalanx vnncomp``: what is printed and written, and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from phalanx.cli import vnncomp

pytest.importorskip("onnx")


def test_supports_lists_what_the_registries_hold(command: Any) -> None:
    code, out, _ = command("supports", "--onnx-operators")
    names = out.split()
    assert code == 0
    assert {"Gemm", "Relu", "Conv", "Constant"} <= set(names)
    assert command("supports", "--vnnlib-versions")[1] == "1.0\n2.0\n"
    assert command("supports", "--onnx-element-types")[1] == "real\n"
    assert "13" in command("supports", "--onnx-opset-versions")[1].split()
    found = json.loads(command("supports", "--json")[1])
    assert found["onnx-operators"] == names
    assert "softmax" in found["bounded-operators"]
    assert "onnx-operators" in command("supports")[1]


def test_scripts_are_written(tmp_path: Path, command: Any) -> None:
    assert command("vnncomp", "scripts", tmp_path / "tool")[0] == 0
    for name in ("install_tool.sh", "prepare_instance.sh", "run_instance.sh"):
        path = tmp_path / "tool" / name
        assert os.access(path, os.X_OK)
        assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("code", "out", "written"),
    [
        (0, "unsat\n", "unsat\n"),
        (0, "sat\n((X_0 1.0)\n(Y_0 2.0))\n", "sat\n((X_0 1.0)\n(Y_0 2.0))\n"),
        (0, "timed-out\n", "timeout\n"),
        (0, "nonsense\n", "error\n"),
        (0, "", "error\n"),
        (3, "unsat\n", "error\n"),
    ],
)
def test_the_results_file_says_what_was_answered(
    code: int,
    out: str,
    written: str,
    tmp_path: Path,
    command: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def answered(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        return subprocess.CompletedProcess(words, code, out, "log")

    monkeypatch.setattr(vnncomp.subprocess, "run", answered)
    results = tmp_path / "out.txt"
    done = command("vnncomp", "run", "v1", "acasxu", "n.onnx", "p.vnnlib", results, "30")
    assert done[0] == 0
    assert results.read_text() == written
    assert asked[0][3:] == ["verify", "n.onnx", "p.vnnlib", "--timeout", "30.0", "--idealised"]


def test_what_cannot_be_prepared_is_refused(tmp_path: Path, command: Any) -> None:
    code, _, err = command("vnncomp", "prepare", "v1", "x", tmp_path / "n.onnx", tmp_path / "p")
    assert code == 3
    assert "n.onnx" in err
    assert command("vnncomp", "prepare", "v2", "x", "n.onnx", "p.vnnlib")[0] == 2
