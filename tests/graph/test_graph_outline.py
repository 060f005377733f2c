"""Outlines show what is not read; nobody gets one who wants to compute with it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("onnx")

import onnx
from graph_helpers import model, node
from onnx_cases import CASES
from onnx_mutants import broken

from phalanx.bounds.front import compute
from phalanx.bounds.region import box
from phalanx.bounds.support import support
from phalanx.errors import GraphError
from phalanx.graph.from_onnx import from_onnx, from_onnx_bytes, onnx_outline
from phalanx.graph.from_torch import LiveGraph, from_torch, torch_outline
from phalanx.graph.ir import OPAQUE, Graph
from phalanx.graph.simplify import simplify
from phalanx.models.declaration import Declaration
from phalanx.models.imported import graph_of, load_onnx
from phalanx.models.model import InputSpec, Model
from phalanx.verify.network import network_of


class Odd(nn.Module):
    """Operators that are not read, one after the other and side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ELU(), nn.Linear(6, 6), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        largest, _ = y.max(1, keepdim=True)
        chosen = torch.where(y > 0.5, y, largest)
        return torch.erf(chosen) + y.unsqueeze(1).amax(1)


FILE = (
    *(node("MatMul", "x w", "a"), node("Elu", "a", "b"), node("Relu", "b", "c")),
    *(node("ReduceMax", "c", "d", axes=[1], keepdims=0), node("Unsqueeze", "d n", "e")),
    *(node("Erf", "c", "f"), node("Add", "e f")),
)
CONSTANTS = {"w": np.ones((4, 6), np.float32), "n": np.array([1])}


def file(path: Path, batch: int | str | None = 1) -> Path:
    path.write_bytes(model(FILE, (4,), CONSTANTS, batch=batch))
    return path


def opaque(graph: Graph) -> list[str]:
    return [n.attributes["operator"] for n in graph if n.op == OPAQUE]


def test_of_a_module() -> None:
    graph = torch_outline(Odd().eval(), (4,))
    assert opaque(graph) == ["elu", "max", "gt", "where", "erf", "amax"]
    assert {n.name: n.shape for n in graph if n.op == OPAQUE}["max_1"] == (1,)
    rows = support(simplify(graph))
    assert [row.op for row in rows if not row.bounded] == opaque(graph)
    assert [row.op for row in rows if row.bounded] == [
        *("linear", "linear", "relu", "reshape", "add"),
    ]
    assert rows[1].repair.startswith("in layer 'body.1': write relu(x) + alpha")


@pytest.mark.parametrize("batch", [1, "N", None])
def test_of_a_file(batch: int | str | None, tmp_path: Path) -> None:
    content = (
        model([node("Elu", "x")], (3,), batch=None)
        if batch is None
        else file(tmp_path / "net.onnx", batch).read_bytes()
    )
    (tmp_path / "net.onnx").write_bytes(content)
    graph = onnx_outline(tmp_path / "net.onnx")
    assert opaque(graph) == (["Elu"] if batch is None else ["Elu", "ReduceMax", "Erf"])
    rows = support(simplify(graph))
    assert [row.op for row in rows if not row.bounded] == opaque(graph)
    assert graph[graph.output].shape == ((3,) if batch is None else (6,))


def test_an_attribute_that_is_not_read_is_a_row_too(tmp_path: Path) -> None:
    nodes = [node("Upsample", "x s", "u", mode="linear"), node("Relu", "u")]
    content = model(nodes, (1, 2, 2), {"s": np.float32([1, 1, 2, 2])}, version=9)
    (tmp_path / "net.onnx").write_bytes(content)
    row, relu = support(simplify(onnx_outline(tmp_path / "net.onnx")))
    assert (row.op, row.bounded, relu.op) == ("Upsample", False, "relu")
    assert row.repair == "mode 'linear'; use nearest neighbour"


def test_what_reads_no_input_is_a_reason_where_it_is_read() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x + torch.arange(4.0))

    with pytest.raises(GraphError, match=r"\(arange\).*register it as a buffer"):
        from_torch(Fixed().eval(), (4,))
    row, relu = support(torch_outline(Fixed().eval(), (4,)))
    assert (row.op, row.bounded, relu.bounded) == ("add", False, True)
    assert row.repair.startswith("node 'arange' (arange) is not supported; register it")


def test_a_recurrent_layer_is_one_row() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.LSTM(2, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.view(-1, 4, 2))[0].flatten(1)

    rows = support(torch_outline(Recurrent().eval(), (8,)))
    assert [(row.op, row.bounded) for row in rows] == [
        *(("reshape", True), ("lstm", False), ("reshape", True)),
    ]
    assert "unroll it into linear layers" in rows[1].repair


class Mixes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.erfinv(x.max(0).values)


class Loses(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.erfinv(x.max(0).values)


class Scales(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.shape[0]


def test_what_loses_the_batch_is_a_reason_where_it_is_read() -> None:
    (row,) = support(torch_outline(Mixes().eval(), (4,)))
    assert (row.op, row.bounded) == ("add", False)
    assert row.repair.startswith("node 'max_1' (max) is not supported; max-pool")
    with pytest.raises(GraphError, match=r"'max_1' \(max\)"):
        torch_outline(Loses().eval(), (4,))
    (row,) = support(torch_outline(Scales().eval(), (4,)))
    assert "is not a tensor" in row.repair


def test_a_domain_of_its_own_has_no_outline(tmp_path: Path) -> None:
    content = model([node("Elu", "x", "a"), node("Odd", "a", domain="com.example")], (3,))
    found = onnx.load_model_from_string(content)
    found.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    (tmp_path / "net.onnx").write_bytes(found.SerializeToString())
    with pytest.raises(GraphError, match="domain"):
        onnx_outline(tmp_path / "net.onnx")


def test_mutated_files_have_outlines_or_are_refused(tmp_path: Path) -> None:
    seen, path = 0, tmp_path / "net.onnx"
    files = [model(FILE, (4,), CONSTANTS), CASES["Conv"][1], CASES["Erf"][1]]
    for number in range(200):
        draw = np.random.default_rng(number)
        path.write_bytes(broken(files[number % len(files)], draw))
        try:
            seen += bool(opaque(onnx_outline(path)))
        except GraphError:
            continue
    assert seen > 5


def given(module: nn.Module) -> Model:
    return Model(module.eval(), InputSpec(shape=(4,)), 6)


WITH_ONE = {
    "from_torch": lambda path: from_torch(Odd().eval(), (4,)),
    "live": lambda path: LiveGraph(Odd(), (4,)),
    "graph_of": lambda path: graph_of(given(Odd())),
    "from_onnx": from_onnx,
    "from_onnx_bytes": lambda path: from_onnx_bytes(path.read_bytes()),
    "load_onnx": lambda path: load_onnx(
        path, Declaration(input_range=(0, 1), normalised_inside=True)
    ),
    "verify a file": network_of,
    "verify a model": lambda path: network_of(given(Odd())),
    "bounds": lambda path: compute(given(Odd()), box(torch.zeros(1, 4), torch.ones(1, 4))),
}


@pytest.mark.parametrize("reader", WITH_ONE)
def test_everybody_else_refuses_by_name(reader: str, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"(?i)\(elu\).*write relu\(x\) \+ alpha") as refused:
        WITH_ONE[reader](file(tmp_path / "net.onnx"))
    assert len(str(refused.value)) < 250


def test_only_the_doctor_asks_for_outlines(repository: Path) -> None:
    asks = {
        path.relative_to(repository / "src" / "phalanx").as_posix()
        for path in (repository / "src").rglob("*.py")
        if re.search(r"\b(torch_outline|onnx_outline|outline_of)\b", path.read_text())
    }
    makes = {"graph/from_torch.py", "graph/from_onnx.py", "models/imported.py"}
    assert asks - makes == {"evaluation/doctor.py"}
