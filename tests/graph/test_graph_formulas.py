"""GELU is recognised where it is spelled out; what only looks like it is not."""

from __future__ import annotations

import io
import math
import warnings

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from graph_helpers import gap, model, node, reference
from onnx import TensorProto, helper, numpy_helper

from phalanx.bounds.front import compute
from phalanx.bounds.outward.samples import sampled_gap
from phalanx.bounds.region import box
from phalanx.errors import GraphError
from phalanx.graph.from_onnx import from_onnx_bytes
from phalanx.graph.from_torch import LiveGraph, from_torch
from phalanx.graph.ir import Graph
from phalanx.graph.run import run
from phalanx.graph.simplify import simplify

ROOT = np.float32(math.sqrt(2))
CONSTANTS = {
    "r": ROOT,
    "i": np.float32(1 / math.sqrt(2)),
    "one": np.float32(1),
    "half": np.float32(0.5),
    "k": np.float32(math.sqrt(2 / math.pi)),
    "a": np.float32(0.044715),
    "three": np.float32(3),
    "third": np.float32(1 / 3),
}
TANH = {
    "power": [node("Pow", "x three", "c")],
    "products": [node("Mul", "x x", "s"), node("Mul", "x s", "c")],
    "square": [node("Pow", "x two", "s"), node("Mul", "s x", "c")],
}
ENDS = {
    "x (1 + e) / 2": [node("Add", "e one", "f"), node("Mul", "x f", "g"), node("Mul", "g half")],
    "(x / 2) (e + 1)": [
        node("Mul", "x half", "b"), node("Add", "one e", "f"), node("Mul", "b f"),
    ],
    "x ((1 + e) / 2)": [
        node("Add", "one e", "f"), node("Mul", "half f", "g"), node("Mul", "g x"),
    ],
    "x (e / 2 + 1 / 2)": [
        node("Mul", "e half", "f"), node("Add", "f half", "g"), node("Mul", "x g"),
    ],
}  # fmt: skip
HEADS = {
    "erf(x / root)": [node("Div", "x r", "d"), node("Erf", "d", "e")],
    "erf(x * inverse)": [node("Mul", "i x", "d"), node("Erf", "d", "e")],
    **{
        f"tanh by {name}": [
            *cube,
            *(node("Mul", "c a", "t"), node("Add", "x t", "u")),
            *(node("Mul", "k u", "v"), node("Tanh", "v", "e")),
        ]
        for name, cube in TANH.items()
    },
}
NEAR_MISSES = {
    "another root": {"r": np.float32(1.4142)},
    "another one": {"one": np.float32(1.0001)},
    "a root for each": {"r": np.full(4, ROOT, np.float32) * np.float32([1, 1, 1, 1.001])},
    "minus": {"one": np.float32(-1)},
    "nothing": {"r": np.float32(0)},
    "no number": {"r": np.float32(np.nan)},
}
OTHERS = {
    "another variable": [
        node("Sigmoid", "x", "z"),
        node("Add", "e one", "f"),
        node("Mul", "z f", "g"),
        node("Mul", "g half"),
    ],
    "a shifted factor": [
        node("Add", "x one", "z"),
        node("Add", "e one", "f"),
        node("Mul", "z f"),
    ],
    "a sum": [node("Add", "e one", "f"), node("Add", "x f")],
    "nothing to multiply": [node("Add", "e one")],
}


def file(nodes, shape=(4,), **changed: object) -> bytes:
    constants = {**CONSTANTS, "two": np.float32(2), **changed}
    return model(nodes, shape, constants, version=17)


def wide(*shape: int) -> Tensor:
    return 4 * torch.randn(200, *shape, generator=torch.Generator().manual_seed(0))


def ops(graph: Graph) -> list[str]:
    return [found.op for found in simplify(graph)]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("head", HEADS)
def test_orders_of_a_file(head: str, end: str) -> None:
    content = file([*HEADS[head], *ENDS[end]])
    graph, x = from_onnx_bytes(content), wide(4)
    assert ops(graph) == ["input", "gelu"]
    assert gap(run(graph, x), reference(content, x)) < 1e-5


def test_a_half_that_stands_elsewhere_is_a_factor() -> None:
    whole = [*HEADS["erf(x / root)"], node("Add", "e one", "f")]
    for factor in ([node("Mul", "x f")], [node("Mul", "x third", "g"), node("Mul", "g f")]):
        content = file([*whole, *factor])
        graph, x = from_onnx_bytes(content), wide(4)
        assert ops(graph) == ["input", "gelu", "scale"]
        assert gap(run(graph, x), reference(content, x)) < 1e-5


def test_constants_that_were_rounded_twice() -> None:
    nodes, two = [*HEADS["erf(x * inverse)"], *ENDS["x (1 + e) / 2"]], np.float32(2)
    for neighbour in (np.float32(1) / ROOT, np.nextafter(CONSTANTS["i"], two)):
        graph = from_onnx_bytes(file(nodes, i=neighbour))
        errors = [found.attributes["error"] for found in graph if found.op == "gelu"]
        assert errors == [
            pytest.approx(0.2936 * abs(float(neighbour) * math.sqrt(2) - 1), rel=1e-6)
        ]
    with pytest.raises(GraphError, match="no part of a GELU"):
        from_onnx_bytes(file(nodes, i=np.nextafter(np.nextafter(CONSTANTS["i"], two), two)))


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_near_misses_are_refused(case: str) -> None:
    nodes = [*HEADS["erf(x / root)"], *ENDS["x (1 + e) / 2"]]
    with pytest.raises(GraphError, match=r"\(Erf\).*no part of a GELU.*nn\.GELU"):
        from_onnx_bytes(file(nodes, **NEAR_MISSES[case]))


@pytest.mark.parametrize("case", OTHERS)
def test_other_formulas_are_refused(case: str) -> None:
    with pytest.raises(GraphError, match=r"\(Erf\).*no part of a GELU"):
        from_onnx_bytes(file([*HEADS["erf(x / root)"], *OTHERS[case]]))


def test_a_tanh_that_is_no_approximation_stays_what_it_is() -> None:
    nodes = [*HEADS["tanh by power"], *ENDS["x (1 + e) / 2"]]
    content = file(nodes, a=np.float32(0.0447))
    graph, x = from_onnx_bytes(content), wide(4)
    assert "tanh" in ops(graph)
    assert gap(run(graph, x), reference(content, x)) < 1e-5


def test_in_double_precision() -> None:
    nodes = [*HEADS["erf(x / root)"], *ENDS["x (1 + e) / 2"]]
    x, y = (helper.make_tensor_value_info(n, TensorProto.DOUBLE, [1, 4]) for n in "xy")
    stored = [
        numpy_helper.from_array(np.float64(value), name)
        for name, value in (("r", math.sqrt(2)), ("one", 1), ("half", 0.5))
    ]
    graph = helper.make_graph(nodes, "net", [x], [y], stored)
    opset = [helper.make_opsetid("", 17)]
    found = from_onnx_bytes(helper.make_model(graph, opset_imports=opset).SerializeToString())
    (gelu,) = (n for n in found if n.op == "gelu")
    assert gelu.attributes["error"] < 1e-14
    points = wide(4).double()
    assert torch.equal(run(found, points), nn.functional.gelu(points))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_an_export(approximate: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.GELU(approximate), nn.Flatten(), nn.Linear(32, 5),
        nn.GELU(approximate), nn.Linear(5, 3),
    ).eval()  # fmt: skip
    kept = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, torch.zeros(1, 1, 6, 6), kept, opset_version=17, dynamo=False)
    graph, x = from_onnx_bytes(kept.getvalue()), wide(1, 6, 6)
    assert {"erf", "opaque", "tanh", "mul"}.isdisjoint(ops(graph))
    assert ops(graph).count("gelu") == 2
    assert gap(run(graph, x), reference(kept.getvalue(), x)) < 1e-5


@pytest.mark.parametrize("method", ["interval", "crown", "alpha-crown", "zonotope"])
def test_bounds_contain_samples(method: str) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(4, 6)).astype(np.float32),
        "v": rng.normal(size=(6, 3)).astype(np.float32),
    }
    inner = [
        *(node("Div", "p r", "d"), node("Erf", "d", "e"), node("Add", "e one", "f")),
        *(node("Mul", "p f", "g"), node("Mul", "g half", "q")),
    ]
    content = file([node("MatMul", "x w", "p"), *inner, node("MatMul", "q v")], **weights)
    centre = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).double()
    region = box(centre - 0.3, centre + 0.3)
    graph = from_onnx_bytes(content)
    found = compute(graph.to(torch.float64), region, method=method)
    share = torch.rand(200, 3, 4, generator=torch.Generator().manual_seed(2)).double()
    for points in (region.lower + share * (region.upper - region.lower)).unbind(0):
        y = reference(content, points.float()).double()
        assert bool((found.lower - 1e-4 <= y).all())
        assert bool((y <= found.upper + 1e-4).all())


@pytest.mark.parametrize("head", ["erf(x / root)", "tanh by products"])
def test_bounds_with_roundings_counted_hold_for_the_files_own_constants(head: str) -> None:
    graph = from_onnx_bytes(file([*HEADS[head], *ENDS["(x / 2) (e + 1)"]]))
    gelu = graph[graph.output]
    x = torch.linspace(-4, 4, 81).double()
    flat, outside = torch.zeros_like(x), 0
    low, high = (sampled_gap(gelu, flat, x, x, above=above) for above in (False, True))
    exact = [sampled_gap(_without_error(gelu), flat, x, x, above=above) for above in (False, True)]
    for at, *sides in zip(x.tolist(), low, -high, exact[0], -exact[1], strict=True):
        with mpmath.workdps(40):
            value = _in_the_file(head, mpmath.mpf(at))
            below, above, under, over = (mpmath.mpf(float(side)) for side in sides)
        assert below <= value <= above
        outside += not under <= value <= over
    assert outside > 20  # without the error they would not


@pytest.mark.parametrize("method", ["interval", "crown", "alpha-crown"])
@pytest.mark.parametrize("head", ["erf(x / root)", "tanh by products"])
def test_no_method_bounds_the_formula_in_place_of_the_file(head: str, method: str) -> None:
    graph = from_onnx_bytes(file([*HEADS[head], *ENDS["(x / 2) (e + 1)"]]))
    x = torch.linspace(-3, 3, 25).double()[:, None].expand(-1, *graph.input.shape)
    found = compute(graph.to(torch.float64), box(x, x), method=method)
    with mpmath.workdps(40):
        values = [_in_the_file(head, mpmath.mpf(at)) for at in x[:, 0].tolist()]
        for value, low, high in zip(values, found.lower[:, 0], found.upper[:, 0], strict=True):
            room = mpmath.mpf(1e-13)  # these methods do not count their own roundings
            assert float(low) - room <= value <= float(high) + room


def _without_error(gelu):
    kept = {key: value for key, value in gelu.attributes.items() if key != "error"}
    return type(gelu)(gelu.name, gelu.op, gelu.inputs, gelu.shape, kept)


def _in_the_file(head: str, x: mpmath.mpf) -> mpmath.mpf:
    k, a, r = (mpmath.mpf(float(CONSTANTS[name])) for name in "kar")
    inner = mpmath.erf(x / r) if head.startswith("erf") else mpmath.tanh(k * (x + a * x**3))
    return x / 2 * (1 + inner)


class ByHand(nn.Module):
    def __init__(self, root: float | nn.Parameter = 2**0.5) -> None:
        super().__init__()
        self.root = root

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 * (1.0 + torch.erf(x / self.root))


def test_a_module_that_spells_it_out() -> None:
    graph, x = from_torch(ByHand().eval(), (4,)), wide(4)
    assert ops(graph) == ["input", "gelu"]
    torch.testing.assert_close(run(graph, x), ByHand()(x))
    with pytest.raises(GraphError, match=r"\(erf\).*no part of a GELU"):
        from_torch(ByHand(1.4).eval(), (4,))


def test_a_constant_that_is_trained_is_none() -> None:
    root = nn.Parameter(torch.tensor(math.sqrt(2)))
    assert ops(from_torch(ByHand(root).eval(), (4,))) == ["input", "gelu"]
    with pytest.raises(GraphError, match="no part of a GELU"):
        LiveGraph(ByHand(root), (4,))
