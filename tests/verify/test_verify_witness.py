"""A witness lies in the exact box, and is wrong again where the network really runs."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from verify_nets import case, double, reaches, tent

from phalanx.errors import DataError, ModelError, NonFiniteError, ParameterError
from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case, Property
from phalanx.verify import network
from phalanx.verify.falsify import Effort, falsified
from phalanx.verify.network import Network, network_of, speaking_of_inputs
from phalanx.verify.outcome import Clock
from phalanx.verify.runtimes import GraphRuntime
from phalanx.verify.witness import admitted, replayed

SOME = Effort(starts=3, steps=12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_admitted_inputs_lie_in_the_box_and_are_what_the_network_reads(dtype: torch.dtype) -> None:
    draw = np.random.default_rng(0)
    lower = torch.from_numpy(draw.normal(size=200))
    upper = lower + torch.from_numpy(10.0 ** draw.uniform(-12, 0, size=200))
    box = Case(lower, upper, torch.ones(1, 1, dtype=torch.float64), double(0.0))
    points = lower + (upper - lower) * torch.linspace(-0.5, 1.5, 40, dtype=torch.float64)[:, None]
    for point in points:
        (x,) = admitted(box, point[None], dtype)
        assert bool(((x >= lower) & (x <= upper)).all())
        given = x.to(dtype).double()
        holds_one = _holds_a_number(lower, upper, dtype)
        assert bool((given == x)[holds_one].all())
        if dtype == torch.float32:
            assert not bool(holds_one.all())


def _holds_a_number(lower: torch.Tensor, upper: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Whether a number of a type lies between two others, found by numpy."""
    kind = np.float32 if dtype == torch.float32 else np.float64
    low = lower.numpy().astype(kind)
    low = np.where(low.astype(np.float64) < lower.numpy(), np.nextafter(low, kind(math.inf)), low)
    return torch.from_numpy(low.astype(np.float64) <= upper.numpy())


def test_a_point_counts_only_where_the_network_is_wrong_there() -> None:
    network = network_of(tent())
    assert replayed(network, reaches(1.5), 0, torch.tensor([[0.5, 0.5]])) is None
    found = replayed(network, reaches(1.5), 0, torch.tensor([[0.5, 0.5], [9.0, -9.0]]))
    assert found is not None
    assert found.x.tolist() == [1.0, -1.0]
    assert found.y.tolist() == [2.0, 1.0]
    assert found.runtime == "graph"


def test_one_type_of_two_is_not_enough() -> None:
    """``y = x + 2**-30 - 1`` is zero at one in float32 and above zero in float64."""
    tensors = {"weight": torch.tensor(1.0), "bias": torch.tensor(2.0**-30)}
    minus = {"bias": torch.tensor(-1.0)}
    graph = Graph(
        (
            Node("x", "input", (), (1,)),
            Node("more", "scale", ("x",), (1,), {}, tensors),
            Node("y", "scale", ("more",), (1,), {}, minus),
        ),
        "y",
    )
    one = double(1.0)
    prop = Property((Case(one, one, torch.ones(1, 1, dtype=torch.float64), double(0.0)),))
    assert replayed(network_of(graph), prop, 0, torch.ones(1, 1)) is None
    assert replayed(network_of(graph.to(torch.float64)), prop, 0, torch.ones(1, 1)) is None


def test_an_answer_that_is_no_number_is_an_error() -> None:
    graph = Graph((Node("x", "input", (), (1,)), Node("y", "log", ("x",), (1,))), "y")
    one = double(1.0)
    prop = Property((Case(-one, one, torch.ones(1, 1, dtype=torch.float64), double(-9.0)),))
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        replayed(network_of(graph), prop, 0, torch.tensor([[-1.0]]))


def test_descents_find_corners_and_do_not_depend_on_company() -> None:
    network = network_of(tent())
    found = falsified(network, reaches(2.0), (0,), Clock(60.0), effort=Effort(2, 10))
    assert found is not None
    assert found.x.abs().tolist() == [1.0, 1.0]
    assert falsified(network, reaches(2.25), (0,), Clock(60.0), effort=SOME) is None
    many = Property((*[case([[-1, 0]], [3.0])] * 5, case([[-1, 0]], [1.75])))
    alone = falsified(network, many, (5,), Clock(60.0), effort=SOME, seed=3)
    beside = falsified(network, many, tuple(range(6)), Clock(60.0), effort=SOME, seed=3)
    assert alone is not None
    assert beside is not None
    assert beside.case == 5
    assert alone.x.tolist() == beside.x.tolist()


def test_a_case_without_rows_is_unsafe_everywhere() -> None:
    found = falsified(network_of(tent()), Property((case([], []),)), (0,), Clock(60.0), effort=SOME)
    assert found is not None
    assert found.x.tolist() == [0.0, 0.0]


def test_rows_that_read_inputs() -> None:
    """Unsafe where ``y_1 + x_0 <= -1.5``, that is ``2 x_0 <= -1.5``."""
    own = Case(
        double(-1.0, -1.0),
        double(1.0, 1.0),
        torch.tensor([[0.0, 1.0]], dtype=torch.float64),
        double(1.5),
        torch.tensor([[1.0, 0.0]], dtype=torch.float64),
    )
    found = falsified(network_of(tent()), Property((own,)), (0,), Clock(60.0), effort=SOME)
    assert found is not None
    assert found.x[0] <= -0.75
    graph = speaking_of_inputs(tent())
    assert graph[graph.output].shape == (4,)


def test_networks_are_files_models_and_graphs(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="a network of type int"):
        network_of(3)  # type: ignore[arg-type]
    other = network_of(Graph((Node("x", "input", (), (3,)), Node("y", "relu", ("x",), (3,))), "y"))
    with pytest.raises(DataError, match="2 inputs and 2 outputs"):
        other.check(reaches(1.0))
    with pytest.raises(ModelError):
        network_of(tmp_path / "absent.onnx")


def test_onnxruntime_answers_what_the_graph_does_on_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    session, threads = runtime.InferenceSession, []

    def started(content: bytes, options: Any, **more: Any) -> Any:
        threads.append((options.intra_op_num_threads, options.inter_op_num_threads))
        return session(content, options, **more)

    monkeypatch.setattr(runtime, "InferenceSession", started)
    onnx = pytest.importorskip("onnx")
    helper, numbers = onnx.helper, onnx.numpy_helper
    graph = tent()
    initial = []
    for name in ("first", "y"):
        tensors = graph[name].tensors
        initial += [
            numbers.from_array(tensors["weight"].T.contiguous().numpy(), f"{name}.w"),
            numbers.from_array(tensors["bias"].numpy(), f"{name}.b"),
        ]
    nodes = [
        helper.make_node("Gemm", ["x", "first.w", "first.b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "y.w", "y.b"], ["y"]),
    ]
    size = onnx.TensorProto.FLOAT
    body = helper.make_graph(
        nodes,
        "tent",
        [helper.make_tensor_value_info("x", size, [1, 2])],
        [helper.make_tensor_value_info("y", size, [1, 2])],
        initial,
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "tent.onnx.gz"
    path.write_bytes(gzip.compress(model.SerializeToString()))
    network = network_of(path)
    assert network.runtime.name == "onnxruntime"
    x = torch.tensor([0.25, -0.5], dtype=torch.float64)
    assert [answer.tolist() for answer in network.runtime(x)] == [[0.75, 0.25]] * 2
    found = falsified(network, reaches(1.9), (0,), Clock(60.0), effort=SOME)
    assert found is not None
    assert found.runtime == "onnxruntime"
    assert threads == [(1, 1)]
    broken = Network(network.graph, GraphRuntime(tent()), "other")
    assert broken.runtime(x)[0].tolist() == [0.75, 0.25]


def test_answers_do_not_depend_on_how_many_rows_fit_into_a_pass(monkeypatch) -> None:
    found = network_of(tent())
    x = torch.linspace(-1, 1, 14).reshape(7, 2)
    expected = torch.stack([x.abs().sum(1), x[:, 0]], 1)
    for size in (1, 6, 9, 1 << 20):
        monkeypatch.setattr(network, "PASS", size)
        assert torch.equal(found.answers(x), expected)


def test_the_centre_is_looked_at_without_any_step() -> None:
    """Unsafe around (3/4, 3/4) alone."""
    near = [[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    own = replace(
        case(near, [1.49, -1.51, -0.76, 0.74]), lower=double(0.5, 0.5), upper=double(1.0, 1.0)
    )
    nothing = Effort(starts=0, steps=0)
    found = falsified(network_of(tent()), Property((own,)), (0,), Clock(60.0), effort=nothing)
    assert found is not None
    assert found.x.tolist() == [0.75, 0.75]


def test_what_single_precision_alone_finds_is_no_counterexample(tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper = onnx.helper
    size, large = onnx.TensorProto.FLOAT, np.full(1, 2.0**25, np.float32)
    body = helper.make_graph(
        [helper.make_node("Add", ["x", "large"], ["up"]),
         helper.make_node("Sub", ["up", "large"], ["y"])],
        "lost",
        [helper.make_tensor_value_info("x", size, [1, 1])],
        [helper.make_tensor_value_info("y", size, [1, 1])],
        [onnx.numpy_helper.from_array(large, "large")],
    )  # fmt: skip
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "lost.onnx").write_bytes(model.SerializeToString())
    lost, one = network_of(tmp_path / "lost.onnx"), double(1.0)
    assert [y.item() for y in lost.runtime(one)] == [0.0, 1.0]
    small = Property((Case(0.5 * one, one, one[None], -0.25 * one),))  # y <= .25
    assert replayed(lost, small, 0, one[None]) is None
