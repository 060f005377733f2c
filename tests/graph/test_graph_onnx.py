"""Every operator that is read, beside onnxruntime; what is not read is refused by name."""

from __future__ import annotations

import gzip
import time
from collections import Counter

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from graph_helpers import at_version, content, gap, inputs, model, node, reference, twice
from onnx import TensorProto, helper
from onnx_cases import CASES
from onnx_mutants import DIFFERENT, REFUSED, SAME, trial

from phalanx.errors import GraphError
from phalanx.graph.from_onnx import OPSETS, from_onnx, from_onnx_bytes
from phalanx.graph.onnx_rules import RULES
from phalanx.graph.run import GraphNetwork, run
from phalanx.graph.simplify import simplify

FAMILIES = (
    "acasxu/onnx/ACASXU_run2a_1_2_batch_2000.onnx.gz",
    "cifar10_resnet/onnx/resnet_2b.onnx",
    "collins_rul_cnn/onnx/NN_rul_small_window_20.onnx.gz",
    "dist_shift/onnx/mnist_concat.onnx.gz",
    "eran/onnx/ffnnSIGMOID__Point_6x200.onnx",
    "linearizenn/onnx/AllInOne_10_10.onnx.gz",
    "ml4acopf/onnx/14_ieee_ml4acopf-linear-residual.onnx.gz",
    "mnist_fc/onnx/mnist-net_256x2.onnx.gz",
    "nn4sys/onnx/lindex.onnx.gz",
    "oval21/onnx/cifar_base_kw.onnx.gz",
    "reach_prob_density/onnx/vdp.onnx.gz",
    "rl_benchmarks/onnx/cartpole.onnx.gz",
    "safenlp/onnx/medical_perturbations_0.onnx.gz",
    "sri_resnet_a/onnx/resnet_3b2_bn_mixup_adv_4.0_bs128_lr-1.onnx.gz",
    "tllverifybench/onnx/tllBench_n=2_N=M=8_m=1_instance_0_1.onnx.gz",
    "verivital/onnx/Convnet_avgpool.onnx",
    "verivital/onnx/Convnet_maxpool.onnx",
)


def compare(file: bytes, graph) -> None:
    x = inputs(graph.input.shape)
    expected = reference(file, x)
    assert gap(run(graph, x), expected) < 1e-5
    assert gap(run(simplify(graph), x), expected) < 1e-5
    assert gap(GraphNetwork(graph)(x), expected) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_operator(case: str) -> None:
    shape, file = CASES[case]
    graph = from_onnx_bytes(file)
    assert graph.input.shape == shape
    compare(file, graph)


def test_every_rule_has_a_case() -> None:
    untested = {"Less", "Greater", "And", "Or", "Cast", "Shape"}
    assert set(RULES) - {case.partition("-")[0] for case in CASES} <= untested


@pytest.mark.parametrize("version", [OPSETS[0], 8, 9, 10, 11, 12, 18, OPSETS[-1]])
def test_operator_sets_are_read_as_onnxruntime_reads_them(version: int) -> None:
    """Each case under another operator set: both refuse it, or both compute the same."""
    same = 0
    for case, (shape, written) in CASES.items():
        file, x = at_version(written, version), inputs(shape)
        try:
            graph = from_onnx_bytes(file)
        except GraphError:
            continue
        assert gap(run(graph, x), reference(file, x)) < 1e-5, case
        same += 1
    assert same >= 70


def test_constants_are_the_files_own_numbers() -> None:
    """What its type does not hold is no number but an operator; defaults are single precision."""
    tenth, third = np.float32([0.1]), np.float32([[1.0]]) / 3
    file = model([node("Gemm", "x w", alpha=0.1)], (1,), {"w": 3 * third})
    assert [n.op for n in from_onnx_bytes(file)] == ["input", "linear"]  # one times a tenth
    file = model([node("Gemm", "x w c", alpha=0.1, beta=0.3)], (1,), {"w": third, "c": tenth})
    found = [n.op for n in from_onnx_bytes(file)]
    assert [found.count(op) for op in ("linear", "scale", "constant", "add")] == [1, 2, 1, 1]
    file = model([node("Gemm", "x w c", alpha=0.5, beta=2.0)], (1,), {"w": third, "c": tenth})
    assert [n.op for n in from_onnx_bytes(file)] == ["input", "linear", "scale"]
    file = model([node("Add", "c c", "d"), node("Add", "x d")], (1,), {"c": tenth})
    assert [n.op for n in from_onnx_bytes(file)] == ["input", "scale"]
    file = model([node("LeakyRelu", "x")], (1,))
    assert from_onnx_bytes(file)["y"].attributes["slope"] == float(np.float32(0.01))
    file = model([node("BatchNormalization", "x c c c c")], (1, 2), {"c": tenth})
    assert from_onnx_bytes(file)["y"].attributes["epsilon"] == float(np.float32(1e-5))


@pytest.mark.shared
@pytest.mark.parametrize("path", FAMILIES)
def test_a_network_of_each_family(path: str, shared) -> None:
    compare(content(shared / "vnncomp" / path), from_onnx(shared / "vnncomp" / path))


@pytest.mark.slow
@pytest.mark.shared
def test_every_network(shared) -> None:
    paths = sorted((shared / "vnncomp").glob("*/onnx/*"))
    assert len(paths) > 50
    for path in paths:
        compare(content(path), from_onnx(path))


def test_a_batch_is_its_rows() -> None:
    shape, file = CASES["MatMul-column"]
    graph, x = from_onnx_bytes(file), inputs(shape, 5)
    alone = torch.cat([run(graph, row[None]) for row in x])
    torch.testing.assert_close(run(graph, x), alone)


def test_a_compressed_file_is_the_file(tmp_path) -> None:
    _, file = CASES["Relu"]
    (tmp_path / "net.onnx.gz").write_bytes(gzip.compress(file))
    assert len(from_onnx(tmp_path / "net.onnx.gz").nodes) == 2


NOT_READ = {
    "operator": (model([node("Elu", "x")], (3,)), r"'y' \(Elu\).*write relu\(x\) \+ alpha"),
    "error function": (model([node("Erf", "x")], (3,)), r"'y' \(Erf\).*no part of a GELU"),
    "random": (model([node("RandomNormalLike", "x")], (3,)), "RandomNormalLike"),
    "domain": (model([node("Relu", "x", domain="com.example")], (3,)), "domain"),
    "cycle": (model([node("Relu", "z"), node("Relu", "y", "z")], (3,)), "no earlier node"),
    "shape": (model([node("MatMul", "x w")], (3,), {"w": np.ones((4, 2), np.float32)}), "cannot"),
    "huge": (
        model([node("Expand", "x s")], (1,), {"s": np.array([1 << 40, 1])}), "shape",
    ),
    "huge input": (model([node("Relu", "x")], (1 << 40,)), "more than"),
    "dropout": (
        model([node("Dropout", "x r t")], (3,), {"r": np.float32(0.5), "t": np.bool_(True)}),
        "evaluation mode",
    ),
    "batch statistics": (
        model([node("BatchNormalization", "x g g g g", training_mode=1)], (2, 4, 4),
              {"g": np.ones(2, np.float32)}, version=15),
        "evaluation mode",
    ),
    "missing input": (model([node("Gather", "x")], (3,)), "it has 1 inputs"),
    "constant": (model([node("Neg", "c")], (3,), {"c": np.ones(2, np.float32)}), "depend on its"),
    "two outputs": (model([node("Split", "x", "y z")], (4,), outputs=("y", "z")), "2 outputs"),
    "many sets": (model([node("Relu", "x")], (3,), version=(13, 9)), r"several operator sets: \[9"),
    "old broadcast": (
        model([node("Add", "x b", axis=1, broadcast=1)], (2, 2), {"b": np.zeros(2, np.float32)},
              version=6),
        "operator set 6; 7 to .*convert_version",
    ),
    "future": (model([node("Relu", "x")], (3,), version=1000), "operator set 1000"),
    "unread attribute": (
        model([node("Resize", "x - s", nearest_mode="floor", mode="nearest")], (2, 4),
              {"s": np.float32([1, 1, 2])}),
        "coordinates 'half_pixel' rounded by 'floor'",
    ),
    "wrong attribute type": (model([node("LeakyRelu", "x", alpha=1)], (3,)), "of another type"),
    "attribute twice": (
        model([twice(node("LeakyRelu", "x", alpha=0.1), alpha=0.5)], (3,)), "an attribute twice"
    ),
    "no longer": (
        model([node("Upsample", "x s")], (2, 4), {"s": np.float32([1, 1, 2])}), "no longer"
    ),
    "per position": (
        model([node("BatchNormalization", "x g g g g", spatial=0)], (2, 4, 4),
              {"g": np.ones(2, np.float32)}, version=7),
        "its spatial is 0",
    ),
    "flag": (model([node("ReduceSum", "x", keepdims=2)], (3,)), "its keepdims is 2"),
    "kernel": (
        model([node("Conv", "x w", kernel_shape=[2, 2])], (1, 4, 4),
              {"w": np.ones((1, 1, 3, 3), np.float32)}),
        r"its kernel_shape is \[2, 2\]",
    ),
    "padding twice": (
        model([node("Conv", "x w", auto_pad="VALID", pads=[1] * 4)], (1, 4, 4),
              {"w": np.ones((1, 1, 3, 3), np.float32)}),
        "both auto_pad and pads",
    ),
    "wrapped padding": (
        model([node("Pad", "x p", mode="wrap")], (4,), {"p": np.array([0, 1, 0, 1])}, version=19),
        "mode 'wrap'",
    ),
    "padding of axes": (
        model([node("Pad", "x p - a")], (4,), {"p": np.array([1, 1]), "a": np.array([1])},
              version=18),
        "its padding names axes",
    ),
    "parts": (model([node("Split", "x", "y z")], (4,), version=18), "nor a number of parts"),
    "shapes of old sums": (
        model([node("Sum", "x c")], (2, 4), {"c": np.ones(4, np.float32)}, version=7), "of several"
    ),
    "constant of a constant": (
        model([node("Constant", "", "c", value_float=1.0), node("Constant", "", "c",
              value_float=2.0), node("Add", "x c")], (3,)),
        "computed twice",
    ),
    "rounded weight": (
        model([node("Mul", "w t", "v"), node("Conv", "x v")], (1, 4, 4),
              {"w": np.ones((1, 1, 3, 3), np.float32) / 3, "t": np.float32(3)}),
        "computed from constants, and would have to be rounded",
    ),
    "rounded constant": (
        model([node("Exp", "c")], (3,), {"c": np.ones(2, np.float32)}), "not depend on its"
    ),
    "noise": (b"\x00\xffnot a model", "ONNX"),
    "empty": (b"", "operator set 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_READ)
def test_refusal(case: str) -> None:
    file, says = NOT_READ[case]
    with pytest.raises(GraphError, match=says):
        from_onnx_bytes(file)


def test_weights_in_other_files_are_refused() -> None:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    tensor.data_location = TensorProto.EXTERNAL
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node("Add", "x w")], "net", [x], [y], [tensor])
    with pytest.raises(GraphError, match="another file"):
        from_onnx_bytes(helper.make_model(graph).SerializeToString())


def test_mutated_files_are_refused_or_read_as_onnxruntime_reads_them() -> None:
    found = Counter(outcome for _, outcome in map(trial, range(400)))
    assert found[SAME] > 20
    assert found[REFUSED] > 200
    assert not found[DIFFERENT]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_mutated_files() -> None:
    for number in range(1000, 11000):
        started = time.process_time()
        assert trial(number)[1] != DIFFERENT, number
        assert time.process_time() - started < 10, number


def test_a_missing_file_is_a_typed_error(tmp_path) -> None:
    with pytest.raises(GraphError, match="cannot be read"):
        from_onnx(tmp_path / "absent.onnx")
