"""What the file's numbers are decides, and not what reading them made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phalanx.errors import DataError, GraphError, QueryError
from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case
from phalanx.specs.vnnlib import read
from phalanx.verify.falsify import Effort
from phalanx.verify.front import verify
from phalanx.verify.network import network_of
from phalanx.verify.portfolio import Portfolio
from phalanx.verify.proof.check import check_files
from phalanx.verify.proving import write_proof
from phalanx.verify.runtimes import type_of
from phalanx.verify.smt.encode import laid_out

onnx = pytest.importorskip("onnx")

TWO = """(vnnlib-version <2.0>)
(declare-network f (declare-input X {kind} [1,1]) (declare-output Y {kind} [1,1]))
(assert (and (>= X[0,0] 0.0) (<= X[0,0] 1.0)))
(assert (>= Y[0,0] 2.0))
"""
QUIET = {"attack": Effort(0, 0), "pursuit": Effort(0, 0)}


def saved(path: Path, nodes: list[Any], shape: list[int], **constants: Any) -> Path:
    """A network from x to y, in a file."""
    kind, helper = onnx.TensorProto.FLOAT, onnx.helper
    x, y = (helper.make_tensor_value_info(name, kind, shape) for name in "xy")
    stored = [onnx.numpy_helper.from_array(np.float32(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "net", [x], [y], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def asked(path: Path, sign: str, limit: float) -> Path:
    """Whether the output at one passes a limit."""
    path.write_text(
        "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 1.0))"
        f"(assert (<= X_0 1.0))(assert ({sign} Y_0 {limit!r}))"
    )
    return path


def limits(exact: float, rounded: float) -> tuple[tuple[str, float], tuple[str, float]]:
    """One that the exact number alone is past, and one that neither is."""
    signs = ("<=", ">=") if exact < rounded else (">=", "<=")
    return (signs[0], (exact + rounded) / 2), (signs[1], 2 * rounded - exact)


def tenth_of_three(folder: Path) -> tuple[Path, float, float]:
    """``(0.1 3) x`` at one: exactly, and in single precision."""
    node = onnx.helper.make_node("Gemm", ["x", "w"], ["y"], alpha=0.1)
    exact = float(np.float32(0.1)) * 3
    path = saved(folder / "net.onnx", [node], [1, 1], w=[[3.0]])
    return path, exact, float(np.float32(0.1) * np.float32(3))


def sum_of_tenths(folder: Path) -> tuple[Path, float, float]:
    """``(x - 1) + (0.1 + 0.2)`` at one: exactly, and in single precision."""
    node = onnx.helper.make_node
    nodes = [
        node("Add", ["c", "d"], ["e"]),
        node("Sub", ["x", "one"], ["z"]),
        node("Add", ["z", "e"], ["y"]),
    ]
    exact = float(np.float32(0.1)) + float(np.float32(0.2))
    path = saved(folder / "net.onnx", nodes, [1, 1], c=[[0.1]], d=[[0.2]], one=1.0)
    return path, exact, float(np.float32(0.1) + np.float32(0.2))


@pytest.mark.parametrize("engine", [None, "branch-and-bound", "smt", "milp"])
@pytest.mark.parametrize("made", [tenth_of_three, sum_of_tenths])
def test_a_constant_that_was_rounded_proves_nothing(
    made: Any, engine: str | None, tmp_path: Path
) -> None:
    """Between the exact number and the rounded one lies a limit that only one of them passes."""
    if engine in ("smt", "milp"):
        pytest.importorskip({"smt": "z3", "milp": "highspy"}[engine])
    path, exact, rounded = made(tmp_path)
    assert exact != rounded
    between, beyond = limits(exact, rounded)
    alone: dict[str, Any] = {} if engine is None else {"bounds": (), "engines": (engine,)}
    plan = Portfolio(**QUIET, **alone)
    assert verify(path, asked(tmp_path / "p.vnnlib", *between), 60, plan=plan).word != "unsat"
    if engine != "milp":  # tolerances of its solver are wider
        assert verify(path, asked(tmp_path / "p.vnnlib", *beyond), 60, plan=plan).word == "unsat"


@pytest.mark.parametrize("made", [tenth_of_three, sum_of_tenths])
def test_proofs_are_about_the_files_numbers(made: Any, tmp_path: Path) -> None:
    """Of the limit that the exact number passes there is none."""
    path, exact, rounded = made(tmp_path)
    for limit, holds in zip(limits(exact, rounded), (False, True), strict=True):
        query = asked(tmp_path / "p.vnnlib", *limit)
        network, proof = network_of(path), tmp_path / f"{holds}.proof"
        found = verify(network, query, 60, plan=Portfolio(proof=True))
        assert (found.word == "unsat") is holds
        if holds:
            write_proof(found, network.graph, read(query).property, (path, query), proof)
            assert check_files(proof, path, query).answer == "unsat"


@pytest.fixture
def twice(tmp_path: Path) -> Path:
    """``2 x`` on two numbers by three."""
    node = onnx.helper.make_node("Add", ["x", "x"], ["y"])
    return saved(tmp_path / "twice.onnx", [node], [1, 2, 3])


def two(folder: Path, kind: str) -> Path:
    """A query of version 2.0."""
    path = folder / "two.vnnlib"
    path.write_text(TWO.format(kind=kind))
    return path


def test_consent_is_asked_for_in_python_as_well(tmp_path: Path) -> None:
    """A query about floats asks about roundings; the file, and what was read from it."""

    path, *_ = tenth_of_three(tmp_path)
    query = two(tmp_path, "float32")
    for prop in (query, read(query)):
        with pytest.raises(QueryError, match="of type float32"):
            verify(path, prop, 60)
        assert verify(path, prop, 60, idealised=True).word == "unsat"
    assert verify(path, two(tmp_path, "real"), 60).word == "unsat"


SHAPES = {
    "[1,2,3]": True, "[2,3]": True, "[3,2]": False, "[1,3,2]": False, "[6]": False,
    "[1,6]": False, "[1,1,2,3]": False, "[2,1,3]": False,
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_a_query_declares_the_shapes_of_its_network(shape: str, twice: Path) -> None:
    """As many numbers in another order of axes are another network's."""

    sizes = [int(n) for n in shape[1:-1].split(",")]
    for kind in ("input", "output"):
        x, y = (sizes, [1, 2, 3]) if kind == "input" else ([1, 2, 3], sizes)
        box = [f"(>= X{list(at)} 0.0) (<= X{list(at)} 1.0)" for at in np.ndindex(*x)]
        limit = f"(>= Y[{','.join('0' * len(y))}] 2.5)"
        path = twice.with_name(f"{kind}.vnnlib")
        head = f"(declare-input X real {x}) (declare-output Y real {y})"
        text = f"(declare-network f {head})\n(assert (and {' '.join(box)}))\n(assert {limit})\n"
        path.write_text("(vnnlib-version <2.0>)\n" + text.replace(", ", ","))
        if SHAPES[shape]:
            assert verify(twice, path, 60).word == "unsat"
            continue
        with pytest.raises(DataError, match=r"declares [XY] with shape"):
            verify(twice, path, 60)
        with pytest.raises(DataError, match=r"declares [XY] with shape"):
            network_of(twice).check(read(path))


def test_a_proof_is_checked_against_the_shapes_of_its_query(twice: Path) -> None:

    path = twice.with_name("flat.vnnlib")
    box = [f"(>= X[{i}] 0.0) (<= X[{i}] 1.0)" for i in range(6)]
    path.write_text(
        "(vnnlib-version <2.0>)\n(declare-network f (declare-input X real [6]) "
        f"(declare-output Y real [6]))\n(assert (and {' '.join(box)}))\n(assert (>= Y[0] 2.5))\n"
    )
    network, prop = network_of(twice), read(path).property
    found = verify(network, prop, 60, plan=Portfolio(proof=True))
    proof = twice.with_name("p.proof")
    write_proof(found, network.graph, prop, (twice, path), proof)
    with pytest.raises(DataError, match="declares X with shape"):
        check_files(proof, twice, path)


def test_a_network_computes_in_one_type() -> None:
    """The widest of its constants': mixed ones are brought to it, and all of it is searched."""
    one, two = torch.ones(1, dtype=torch.float32), torch.full((1,), 2.0, dtype=torch.float64)
    nodes = (
        Node("x", "input", (), (1,)),
        Node("h", "linear", ("x",), (1,), {}, {"weight": one[None]}),
        Node("r", "relu", ("h",), (1,)),
        Node("y", "linear", ("r",), (1,), {}, {"weight": two[None]}),
    )
    network = network_of(Graph(nodes, "y"))
    assert network.dtype == type_of(network.graph) == torch.float64
    assert {t.dtype for n in network.graph for t in n.tensors.values()} == {torch.float64}
    for limit, word in ((-1.5, "sat"), (-2.5, "unsat")):
        rows = Case(-one.double(), one.double(), -one[None].double(), -limit * one.double())
        plan = Portfolio(bounds=(), engines=("branch-and-bound",), **QUIET)
        assert verify(network, rows, 60, plan=plan).word == word


def test_rational_arithmetic_refuses_weights_that_were_rounded() -> None:
    """A third is no number of any type: what an ensemble's share stands for is another one."""
    weight = {"weight": torch.tensor(1 / 3, dtype=torch.float64)}
    share = Node("y", "scale", ("x",), (1,), {"roundings": 2}, weight)
    graph = Graph((Node("x", "input", (), (1,)), share), "y")
    with pytest.raises(GraphError, match="weights that were rounded"):
        laid_out(graph)
