"""Files of proofs: they hold as written, and no other bytes are believed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from proof_nets import answered, asked, onnx_file, query_file, small
from safetensors.numpy import load, save

from phalanx.errors import RunError
from phalanx.verify.proof.broken import ProofBroken
from phalanx.verify.proof.check import check_files
from phalanx.verify.proof.file import read, write
from phalanx.verify.proving import write_proof


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A network, a property and the proof that it holds."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("proof")
    graph, prop = asked(1, 0.01)
    net = onnx_file(graph, folder / "net.onnx")
    query = query_file(prop.cases[0], folder / "p.vnnlib")
    from phalanx.graph.from_onnx import from_onnx
    from phalanx.specs.vnnlib import read as read_query

    graph, prop = from_onnx(net), read_query(query).property
    out = folder / "proof.safetensors"
    write_proof(answered(graph, prop, "signs"), graph, prop, (net, query), out)
    return net, query, out


def test_files_hold_compressed_or_not(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    net, query, out = files
    found = check_files(out, net, query)
    assert (found.answer, found.cases) == ("unsat", 1)
    assert write(read(out), tmp_path / "p.gz") < out.stat().st_size
    (tmp_path / "n.onnx.gz").write_bytes(gzip.compress(net.read_bytes()))
    assert check_files(tmp_path / "p.gz", tmp_path / "n.onnx.gz", query).leaves == found.leaves


def test_files_of_others_do_not_hold(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    net, query, out = files
    (tmp_path / "p.vnnlib").write_text(query.read_text() + "\n; another text")
    with pytest.raises(ProofBroken, match="the property: the proof is not about"):
        check_files(out, net, tmp_path / "p.vnnlib")
    other = onnx_file(small(2)[0], tmp_path / "n.onnx")
    with pytest.raises(ProofBroken, match="the network"):
        check_files(out, other, query)


def rewritten(
    out: Path, path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> Path:
    """The file with what it says, and its tensors, changed."""
    content = out.read_bytes()
    tensors = load(content)
    size = int.from_bytes(content[:8], "little")
    said = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["proof"])
    change(said, tensors)
    path.write_bytes(save(tensors, {"proof": json.dumps(said)}))
    return path


def no_cases(said: dict[str, Any], tensors: dict[str, Any]) -> None:
    said["units"] = {}


def nan(said: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["signs/0/shares"] = np.full_like(tensors["signs/0/shares"], np.nan)


def unread_nan(said: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["nobody/reads"] = np.full(3, np.nan)


def single(said: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["signs/0/shares"] = tensors["signs/0/shares"].astype(np.float32)


def gone(said: dict[str, Any], tensors: dict[str, Any]) -> None:
    del tensors["signs/0/split"]


def as_sat(said: dict[str, Any], tensors: dict[str, Any]) -> None:
    said["answer"], said["case"] = "sat", 0
    tensors["witness"] = np.zeros(2)


def negative_case(said: dict[str, Any], tensors: dict[str, Any]) -> None:
    said["answer"], said["case"] = "sat", -1


def other_answer(said: dict[str, Any], tensors: dict[str, Any]) -> None:
    said["answer"] = "unknown"


def words_for_units(said: dict[str, Any], tensors: dict[str, Any]) -> None:
    said["units"]["0"][0] = ["h0", "first"]


def case_one(said: dict[str, Any], tensors: dict[str, Any]) -> None:
    said["cases"] = 2


def arithmetic(said: dict[str, Any], tensors: dict[str, Any]) -> None:
    said["arithmetic"] = "real"


def digest(said: dict[str, Any], tensors: dict[str, Any]) -> None:
    said["network"] = "0" * 64


@pytest.mark.parametrize(
    "change",
    [
        *(no_cases, nan, unread_nan, single, gone, as_sat, negative_case, other_answer),
        *(words_for_units, case_one, arithmetic, digest),
    ],
)
def test_rewritten_files_do_not_hold(
    files: tuple[Path, Path, Path], tmp_path: Path, change: Callable[..., None]
) -> None:
    net, query, out = files
    path = rewritten(out, tmp_path / "p.safetensors", change)
    with pytest.raises(ProofBroken):
        check_files(path, net, query)


def test_what_is_no_proof_is_refused(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    net, query, out = files
    content = out.read_bytes()
    for bad in (b"", b"nothing", content[:200], save({"a": np.zeros(2)}), b"\xff" * 64):
        (tmp_path / "p").write_bytes(bad)
        with pytest.raises(RunError):
            check_files(tmp_path / "p", net, query)
    with pytest.raises(RunError):
        check_files(tmp_path / "nowhere", net, query)


def test_flipped_bytes_hold_or_are_refused(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Never anything else, and some are refused."""
    net, query, out = files
    content, draw = bytearray(out.read_bytes()), np.random.default_rng(3)
    refused = 0
    for _ in range(60):
        bad = bytearray(content)
        bad[int(draw.integers(len(bad)))] ^= int(draw.integers(1, 256))
        (tmp_path / "p").write_bytes(bad)
        try:
            check_files(tmp_path / "p", net, query)
        except (ProofBroken, RunError):
            refused += 1
    assert refused > 0
