"""Parameters of curves: whatever they are lines hold, and an optimiser gains by them."""

from __future__ import annotations

import pytest
import torch
from bounds_checks import contains, outputs
from bounds_nets import CURVES, POSITIVE, Net, around, points
from torch import Tensor

from phalanx.bounds.front import compute
from phalanx.bounds.ops import Box, Curve, Lines, rows
from phalanx.bounds.outward.recheck import recheck
from phalanx.bounds.prepare import prepare
from phalanx.graph.ir import Graph, Node
from phalanx.graph.operators import OPERATORS

MOVED = [
    name
    for name in (*CURVES, *POSITIVE)
    if isinstance(row := rows.get(name.partition(" ")[0]), Curve) and row.parameters
]
TWO_SLOPES = ["clip", "cos", "gelu", "gelu tanh", "power", "power even", "power root", "sin"]


def node_of(name: str) -> tuple[Node, Curve]:
    op = name.partition(" ")[0]
    options = POSITIVE.get(name, CURVES.get(name, {}))
    row = rows.get(op)
    assert isinstance(row, Curve)
    return Node("y", op, ("x",), (200,), {**options, "inputs": ((200,),)}), row


def intervals(name: str, seed: int) -> Box:
    random = torch.Generator().manual_seed(seed)
    middle = 3 * torch.randn(1, 200, generator=random, dtype=torch.float64)
    width = 10 ** (2 * torch.rand(1, 200, generator=random, dtype=torch.float64) - 1.5)
    if name in POSITIVE:
        middle = middle.abs() + width + 1e-3
    return Box(middle - width, middle + width)


def misses(node: Node, lines: Lines, box: Box) -> tuple[float, float]:
    """By how much the function lies below the lower line or above the upper one at most."""
    low = high = 0.0
    for share in torch.linspace(0, 1, 101, dtype=torch.float64):
        x = box.lower + share * (box.upper - box.lower)
        y, size = OPERATORS[node.op](node, x), 1 + x.abs()
        below = lines.lower_slope * x + (0 if lines.lower_offset is None else lines.lower_offset)
        above = lines.upper_slope * x + (0 if lines.upper_offset is None else lines.upper_offset)
        low = max(low, float(((below - y) / (size + y.abs())).max()))
        high = max(high, float(((y - above) / (size + y.abs())).max()))
    return low, high


@pytest.mark.parametrize("name", MOVED)
def test_lines_hold_wherever_their_parameters_are(name: str) -> None:
    (node, row), box = node_of(name), intervals(name, 1)
    random = torch.Generator().manual_seed(2)
    for k in range(6):
        place = torch.rand(row.parameters, 3, 1, 200, generator=random, dtype=torch.float64)
        place = place.round() if k % 2 else place
        assert max(misses(node, row.lines(node, *box, place), box)) < 1e-9


@pytest.mark.parametrize("name", TWO_SLOPES)
def test_an_optimisation_begins_with_the_usual_lines(name: str) -> None:
    (node, row), box = node_of(name), intervals(name, 3)
    usual, begun = row.lines(node, *box, None), row.lines(node, *box, row.start(node, [box])[:, 0])
    size = 1 + box.lower.abs() + box.upper.abs()
    for x in box:  # no lower than usual, at either end
        less = (usual.lower_slope - begun.lower_slope) * x
        less = less + usual.lower_offset - begun.lower_offset
        more = (begun.upper_slope - usual.upper_slope) * x
        more = more + begun.upper_offset - usual.upper_offset
        scale = size * (1 + OPERATORS[node.op](node, x).abs())
        assert bool((torch.maximum(less, more) <= 1e-9 * scale).all())
    parallel = row.lines(node, *box, row.start(node, [box], parallel=True)[:, 0])
    torch.testing.assert_close(parallel.lower_slope, parallel.upper_slope)


@pytest.mark.parametrize("name", ["gelu", "sin"])
def test_derivatives_of_the_offsets_are_those_of_the_lines(name: str) -> None:
    """At one place of the interval the line touches: its offset falls by that much a slope."""
    (node, row), box = node_of(name), intervals(name, 4)
    place = torch.full((2, 1, 1, 200), 0.3, dtype=torch.float64, requires_grad=True)
    moved = row.lines(node, *box, place)
    (slope,) = torch.autograd.grad(moved.lower_slope.sum(), place, retain_graph=True)
    (offset,) = torch.autograd.grad(moved.lower_offset.sum(), place)
    step = 1e-6
    with torch.no_grad():
        ahead, back = (row.lines(node, *box, place + d).lower_offset for d in (step, -step))
    found, expected = offset[0, 0], (ahead - back)[0] / (2 * step)
    close = (found - expected).abs() <= 1e-4 * (1 + slope[0, 0].abs())
    assert close.double().mean() > 0.97, "but for where the lowest sample is another one"


def waves(op: str, seed: int) -> Graph:
    options = POSITIVE.get(op, CURVES.get(op, {}))
    net = Net(seed, (4,)).dense(6, 2.0)
    if op in POSITIVE:
        net.add("square").add("scale", tensors={"bias": torch.tensor(0.3, dtype=torch.float64)})
    return net.add(op.partition(" ")[0], **options).dense(5).add("relu").graph()


@pytest.mark.parametrize("name", TWO_SLOPES)
def test_an_optimiser_gains(name: str) -> None:
    gained, widths = torch.zeros(()), torch.zeros(())
    for seed in range(3):
        graph = waves(name, seed)
        region = around(graph, 0.5, seed)
        plain, moved = (compute(graph, region, method=m) for m in ("crown", "alpha-crown"))
        assert plain.upper is not None
        assert moved.upper is not None
        assert bool((moved.lower >= plain.lower - 1e-9 * (1 + plain.lower.abs())).all())
        gained += float((moved.lower - plain.lower + plain.upper - moved.upper).sum())
        widths += float((plain.upper - plain.lower).sum())
    assert gained > 0.01 * widths


def joined(op: str, seed: int) -> Graph:
    """Two layers of the same input, and their product; or the largest of windows of layers."""
    if op == "max-pool":
        return pooled(seed)
    net = Net(seed, (3, 4)).dense(5)
    first, net.last = net.add("relu").last, net.builder.input
    other = net.dense(5).last
    if op == "matmul":
        other = net.builder.add("transpose", [other], permutation=(1, 0))
    net.last = first
    return net.add(op, other).graph()


def pooled(seed: int) -> Graph:
    """Windows that overlap, the last of which are not complete."""
    net = Net(seed, (2, 5, 5))
    weight = {"weight": net.draw(3, 2, 2, 2)}
    steps = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    net.add("conv", tensors=weight, groups=1, **steps)
    wide = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 1)}
    return net.add("max-pool", **wide, ceil_mode=True).add("reshape", shape=(27,)).dense(5).graph()


@pytest.mark.parametrize("op", ["mul", "matmul", "max-pool"])
def test_planes_are_optimised_and_checked_again(op: str) -> None:
    gained = width = lost = 0.0
    for seed in range(3):
        graph = prepare(joined(op, seed)).to(torch.float64)
        region = around(graph, 0.5, seed, batch=1)
        unit = torch.eye(3, dtype=torch.float64)
        rows_ = torch.cat([unit, -unit])
        plain, moved = (
            compute(graph, region, method=m, rows=rows_) for m in ("crown", "alpha-crown")
        )
        again = recheck(graph, region, rows_, moved.trace)
        assert bool((moved.lower >= plain.lower - 1e-9).all())
        reached = outputs(graph, points(region, 300))
        reached = torch.cat([reached, -reached], 2).amin((0, 1))
        assert bool((moved.lower[0] <= reached).all())
        assert bool((again <= reached).all())
        gained += float((moved.lower - plain.lower).sum())
        lost += float((moved.lower[0] - again).clamp_min(0).sum())
        width += float(-plain.lower.sum())
    assert gained > 0.02 * width
    assert lost < 0.1 * gained


@pytest.mark.parametrize("op", ["mul", "matmul"])
def test_a_zonotope_of_a_product_keeps_what_it_has_to_do_with_the_input(op: str) -> None:
    """No looser than backward passes through the same planes, and tighter than its box."""
    for seed in range(3):
        graph = prepare(joined(op, seed)).to(torch.float64)
        region = around(graph, 0.3, seed)
        found = compute(graph, region, method="zonotope")
        reached = outputs(graph, points(region, 300))
        assert bool((found.lower <= reached.amin(0)).all())
        assert bool((found.upper >= reached.amax(0)).all())
        box = compute(graph, region, method="interval")
        parallel = compute(graph, region, method="fast-lin")
        assert bool((found.lower >= parallel.lower - 1e-9).all())
        assert float((found.upper - found.lower).sum()) < 0.9 * float((box.upper - box.lower).sum())
        unit = torch.eye(3, dtype=torch.float64)
        for element in range(len(region)):
            rows_ = torch.cat([unit, -unit])
            one = compute(graph, region.element(element), method="zonotope", rows=rows_)
            again = recheck(graph, region.element(element), rows_, one.trace)
            assert bool((again[:3] >= parallel.lower[element] - 1e-9).all())


def test_a_zonotope_of_windows_follows_one_entry_of_each() -> None:
    """Neighbours have much in common: what one exceeds the other by is less than their boxes."""
    boxed = linear = found = 0.0
    for seed in range(4):
        graph = prepare(pooled(seed)).to(torch.float64)
        region = around(graph, 0.1, seed)
        bounds = compute(graph, region, method="zonotope")
        contains(graph, region, bounds)
        found += float((bounds.upper - bounds.lower).sum())
        for method in ("interval", "crown"):
            other = compute(graph, region, method=method)
            width = float((other.upper - other.lower).sum())
            boxed += width * (method == "interval")
            linear += width * (method == "crown")
    assert found < 0.7 * boxed
    assert found < 1.3 * linear


def test_the_largest_takes_a_mean_below_and_slopes_above() -> None:
    """By hand: windows of two, of which the second wins for certain."""
    options = {"kernel": (2,), "stride": (2,), "padding": (0,), "dilation": (1,)}
    node = Node("y", "max-pool", ("x",), (1, 2), {**options, "input": (1, 4), "inputs": ((1, 4),)})
    box = Box(*torch.tensor([[[[0.0, -1, 0, 5]], [[2.0, 3, 1, 6]]]]).double().movedim(1, 0))
    row = rows.get("max-pool")
    begun = row.start(node, [box])
    assert begun[:, 0, 0, 0].T.tolist() == [[1.0, 0.0, 1.0, 0.75], [0.0, 1.0, 0.0, 1.0]]
    one = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    for sign in (1, -1):
        usual, place = (row.backward(node, [box], sign * one, p) for p in (None, begun))
        torch.testing.assert_close(usual, place)
    shares = torch.tensor([0.2, 0.6, 0.5, 0.25], dtype=torch.float64)
    moved = shares.reshape(4, 1, 1, 1, 1).expand(4, 1, 1, 1, 2)
    (below,), nothing = row.backward(node, [box], one, moved)
    (above,), offset = row.backward(node, [box], -one, moved)
    assert at(below) == [0.25, 0.75, 0.0, 1.0]
    assert at(above) == [-0.5, -0.25, 0.0, -1.0]
    assert float(nothing) == 0.0
    # The largest is 3, of which a quarter of 3 - -1 is counted; and the other is at least 0.
    assert float(offset) == -(0.75 * 3 + 0.25 * -1 - (0.5 * 0 + 0.25 * -1))


def test_every_curve_but_steps_has_something_to_move() -> None:
    curves = {name: row for name in rows.names() if isinstance(row := rows.get(name), Curve)}
    still = {name for name, row in curves.items() if not row.parameters}
    assert still == {"sign", "floor"}


def at(values: Tensor) -> list[float]:
    return [round(value, 9) for value in values.flatten().tolist()]


def test_slopes_of_a_clip_are_the_parameters_where_a_corner_is_inside() -> None:
    node = Node("y", "clip", ("x",), (3,), {"low": -0.5, "high": 1.0, "inputs": ((3,),)})
    row = rows.get("clip")
    assert isinstance(row, Curve)
    lower = torch.tensor([[-1.0, 0.0, 2.0]], dtype=torch.float64)
    place = torch.tensor([0.25, 0.75], dtype=torch.float64).reshape(2, 1, 1).expand(2, 1, 3)
    lines = row.lines(node, lower, lower + 1.5, place)
    assert at(lines.lower_slope) == [0.25, 0.25, 0.0]
    assert at(lines.upper_slope) == [0.75, 0.75, 0.0]
