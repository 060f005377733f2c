"""Single operators: adjoints against transposed matrices, lines and boxes where they are known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from phalanx.bounds.front import compute
from phalanx.bounds.ops import Affine, Box, Curve, Lines, rows
from phalanx.bounds.region import Region
from phalanx.graph.build import Builder
from phalanx.graph.ir import Node

RANDOM = torch.Generator().manual_seed(0)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM, dtype=torch.float64)


def _other(builder: Builder, shape: tuple[int, ...]) -> str:
    total = builder.add(
        "reduce-sum", [builder.input], axes=tuple(range(len(builder[builder.input].shape)))
    )
    return builder.add("expand", [total], shape=shape)


def node_of(op: str, *shapes: tuple[int, ...], tensors=None, **attributes) -> Node:
    builder = Builder(shapes[0])
    inputs = [builder.input, *(_other(builder, shape) for shape in shapes[1:])]
    node = builder[builder.add(op, inputs, tensors=tensors, **attributes)]
    read = tuple(builder[name].shape for name in node.inputs)
    return replace(node, attributes={**node.attributes, "inputs": read, "input": read[0]})


AFFINE = {
    "concat of vectors": node_of("concat", (4,), (4,), axis=0),
    "concat of images, channels": node_of("concat", (2, 3, 2), (4, 3, 2), axis=0),
    "concat of images, columns": node_of("concat", (2, 3, 2), (2, 3, 1), axis=2),
    "expand by one axis": node_of("expand", (3, 2), shape=(4, 3, 2)),
    "expand by two axes": node_of("expand", (3, 2), shape=(4, 5, 3, 2)),
    "expand by two axes and within": node_of("expand", (1, 2), shape=(4, 5, 3, 2)),
    "scale of a vector by a matrix": node_of("scale", (4,), tensors={"weight": draw(3, 4)}),
    "scale by a row": node_of("scale", (3, 4), tensors={"weight": draw(4)}),
    "scale by a column": node_of("scale", (1, 4), tensors={"weight": draw(3, 1)}),
}


@pytest.mark.parametrize("name", AFFINE)
def test_the_adjoint_of_an_affine_operator_is_its_transpose(name: str) -> None:
    node = AFFINE[name]
    row = rows.get(node.op)
    assert isinstance(row, Affine)
    shapes = node.attributes["inputs"]
    values = [draw(2, *shape) for shape in shapes]
    back = draw(3, 2, *node.shape)
    forward = row.linear(node, *values)
    assert forward.shape == (2, *node.shape)
    expected = (back * forward).flatten(2).sum(2)
    found = row.adjoint(node, back)
    assert [tuple(part.shape) for part in found] == [(3, 2, *shape) for shape in shapes]
    pairs = zip(found, values, strict=True)
    assert torch.allclose(sum((part * x).flatten(2).sum(2) for part, x in pairs), expected)


def sides(*pairs: tuple[float, float]) -> tuple[Tensor, Tensor]:
    lower, upper = torch.tensor(pairs, dtype=torch.float64).T.unsqueeze(1)
    return lower, upper


def curve_of(op: str, size: int, **attributes) -> tuple[Node, Curve]:
    node = node_of(op, (size,), **attributes)
    row = rows.get(op)
    assert isinstance(row, Curve)
    return node, row


def below(lines: Lines, x: Tensor) -> Tensor:
    return lines.lower_slope * x + (0 if lines.lower_offset is None else lines.lower_offset)


def above(lines: Lines, x: Tensor) -> Tensor:
    return lines.upper_slope * x + (0 if lines.upper_offset is None else lines.upper_offset)


@pytest.mark.parametrize("exponent", [-1.0, -2.0, -3.0])
def test_a_pole_inside_bounds_nothing(exponent: float) -> None:
    lower, upper = sides((-1.0, 2.0), (-2.0, 0.0), (0.0, 1.0), (-2.0, -1.0), (1.0, 2.0))
    node, row = curve_of("power", 5, exponent=exponent)
    known = [False, False, False, True, True]
    box = row.interval(node, Box(lower, upper))
    assert torch.isfinite(box.lower).tolist() == torch.isfinite(box.upper).tolist() == [known]
    lines = row.lines(node, lower, upper, None)
    for x in torch.linspace(0, 1, 33)[1:-1]:
        at = lower + x * (upper - lower)
        value = at**exponent
        assert bool(((value >= box.lower) & (value <= box.upper)).all())
        assert bool((below(lines, at) <= value + 1e-9).all())
        assert bool((above(lines, at) >= value - 1e-9).all())


def test_powers_of_negative_numbers_with_broken_exponents_bound_nothing() -> None:
    lower, upper = sides((-1.0, 2.0), (-2.0, -1.0), (1.0, 2.0))
    node, row = curve_of("power", 3, exponent=1.5)
    assert torch.isfinite(row.interval(node, Box(lower, upper)).upper).tolist() == [
        [False, False, True]
    ]


@pytest.mark.parametrize(
    ("op", "pairs"),
    [
        ("exp", ((-3.0, 2.0), (0.5, 0.75), (-10.0, -9.0))),
        ("square", ((-3.0, 2.0), (0.5, 0.75), (-1.0, 0.0))),
        ("reciprocal", ((0.5, 4.0), (1.0, 1.25), (1e-3, 1.0))),
    ],
)
def test_the_upper_line_of_a_convex_curve_is_its_chord(op: str, pairs) -> None:
    lower, upper = sides(*pairs)
    node, row = curve_of(op, len(pairs))
    lines = row.lines(node, lower, upper, None)
    for end in (lower, upper):
        value = {"exp": torch.exp, "square": torch.square, "reciprocal": torch.reciprocal}[op](end)
        assert torch.allclose(above(lines, end), value, rtol=1e-9)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1.0), ("l2", 2.0), ("l1", math.inf)])
def test_operator_norms_are_exact_for_one_layer(norm: str, dual: float) -> None:
    builder = Builder((5,))
    tensors = {"weight": draw(3, 5), "bias": draw(3)}
    graph = builder.graph(builder.add("linear", [builder.input], tensors=tensors))
    x = draw(2, 5)
    region = Region(x - 0.3, x + 0.3, x, norm, 0.0 if norm == "linf" else 0.3)
    found = compute(graph, region, method="op-norm", rows=torch.eye(3).double().expand(2, 3, 3))
    length = torch.linalg.vector_norm(tensors["weight"], ord=dual, dim=1)
    assert torch.allclose(found.lower, x @ tensors["weight"].T + tensors["bias"] - 0.3 * length)


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2.0), ("l1", math.inf)])
def test_an_affine_layer_on_a_ball_is_bounded_by_the_dual_norm(norm: str, dual: float) -> None:
    builder = Builder((5,))
    tensors = {"weight": draw(3, 5), "bias": draw(3)}
    # Far above zero a ReLU passes everything on, and its boxes are those of the layer before it.
    tensors["bias"] = tensors["bias"] + 20
    hidden = builder.add("relu", [builder.add("linear", [builder.input], tensors=tensors)])
    graph = builder.graph(hidden)
    x = draw(2, 5)
    region = Region(x - 0.3, x + 0.3, x, norm, 0.3)
    found = compute(graph, region, method="interval", rows=torch.eye(3).double().expand(2, 3, 3))
    length = torch.linalg.vector_norm(tensors["weight"], ord=dual, dim=1)
    expected = x @ tensors["weight"].T + tensors["bias"] - 0.3 * length
    assert torch.allclose(found.lower, expected)


def test_the_tangent_of_exp_is_at_the_middle_and_stays_positive() -> None:
    lower, upper = sides((0.5, 0.75), (-1.0, 0.5), (-3.0, 4.0))
    node, row = curve_of("exp", 3)
    lines = row.lines(node, lower, upper, None)
    middle = (lower + upper) / 2
    assert torch.allclose(below(lines, middle)[:, :2], torch.exp(middle)[:, :2])
    assert bool((below(lines, lower) > 0).all())


def test_lines_of_a_clip_follow_the_longer_piece() -> None:
    """Between the corners at one end: the line above is flat where most of the interval is."""
    lower, upper = sides((-0.1, 1.0), (-0.1, 5.0), (-0.7, 0.5), (-5.0, 0.5))
    node, row = curve_of("clip", 4, low=-0.6, high=0.9)
    lines = row.lines(node, lower, upper, None)
    ends = [lower.clamp(-0.6, 0.9), upper.clamp(-0.6, 0.9)]
    assert torch.isclose(above(lines, lower), ends[0]).tolist()[0][:2] == [True, False]
    assert lines.upper_slope.tolist()[0][1] == lines.lower_slope.tolist()[0][3] == 0
    assert torch.allclose(below(lines, upper)[0, 2], ends[1][0, 2])
    assert torch.allclose(below(lines, lower)[0, 3], torch.tensor(-0.6).double())


def test_lines_of_a_gelu_leave_room_for_what_its_constants_may_be_off_by() -> None:
    """Where the lines have offsets, and where they begin with none (on one side of zero)."""
    lower, upper = sides((-6.0, -5.0), (-2.0, -0.5), (-1.0, 2.0), (0.5, 0.75), (3.0, 9.0))
    node, row = curve_of("gelu", 5)
    plain = row.lines(node, lower, upper, None)
    off = row.lines(
        replace(node, attributes={**node.attributes, "error": 0.05}), lower, upper, None
    )
    for share in torch.linspace(0, 1, 21):
        x = lower + share * (upper - lower)
        y = torch.nn.functional.gelu(x)
        assert bool((below(off, x) <= y - 0.05 + 1e-12).all())
        assert bool((above(off, x) >= y + 0.05 - 1e-12).all())
        torch.testing.assert_close(below(off, x), below(plain, x) - 0.05, atol=1e-3, rtol=0)
        torch.testing.assert_close(above(off, x), above(plain, x) + 0.05, atol=1e-3, rtol=0)
