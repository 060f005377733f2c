"""Operators of several variables checked again, against rationals at corners of boxes."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from bounds_nets import POOL, Net
from torch import Tensor

from phalanx.bounds.outward import pooling, products
from phalanx.bounds.outward.joints import JOINTS
from phalanx.bounds.outward.sums import Sides, Sums
from phalanx.bounds.prepare import prepare
from phalanx.graph.ir import Graph, Node
from phalanx.graph.operators import OPERATORS


def joint(op: str, seed: int) -> tuple[Node, list[tuple[int, ...]]]:
    """A node between inputs of the shapes that are returned."""
    net = Net(seed, (2, 5, 5) if op == "max-pool" else (3, 4))
    if op == "max-pool":
        net.add(op, **POOL, dilation=(1, 1), ceil_mode=True)
    elif op == "mul":
        other = net.builder.constant(net.draw(*((3, 4), (1, 4), (4,))[seed % 3]))
        net.add(op, other)
    else:
        net.add(op, net.builder.constant(net.draw(4, 5)))
    graph = prepare(Graph(net.builder.graph(net.last).nodes, net.last))
    node = next(n for n in graph if n.op == op)
    return node, list(node.attributes["inputs"])


def boxes(shapes: list[tuple[int, ...]], seed: int) -> list[Sides]:
    """Of every size; some sides are points, some widths are huge."""
    random, found = torch.Generator().manual_seed(seed), []
    for number, shape in enumerate(shapes):
        scale = 10.0 ** (0, -8, 3, -150, 100, -3)[(seed + number) % 6]
        draw = torch.randn(2, 1, *shape, generator=random, dtype=torch.float64)
        width = scale * draw[1].abs() * (0.0, 1.0, 1e-8, 1e-15, 30.0)[seed % 5]
        found.append(Sides(scale * draw[0] - width, scale * draw[0] + width))
    return found


def exactly(values: Tensor) -> list[Fraction]:
    return [Fraction(v) for v in values.flatten().tolist()]


def joint_violations(op: str, seed: int) -> tuple[int, float]:
    """How often rows of a product or maximum are less than their planes say, at corners.

    Half of the time they are other ones than the usual, as a search asks for; not all of what it
    asks for are shares.
    """
    node, shapes = joint(op, seed)
    sides = boxes(shapes, seed)
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(4, *node.shape, generator=random, dtype=torch.float64)
    rows[1] = -rows[0]
    sums = Sums(len(rows), torch.float64)
    place = None
    if seed % 2:
        count = 6 if op == "max-pool" else 1
        own = 1 if seed % 3 == 0 else 4  # shares of all rows, or of each
        drawn = torch.rand(2, own, count, *node.shape, generator=random, dtype=torch.float64)
        place = drawn[0].round() if seed % 4 == 1 else 2 * drawn[0] - 0.5, drawn[1]
    parts = JOINTS[op].back(node, rows, sides, sums, place)
    least = [Fraction(v) for v in sums.lower().tolist()]
    low, high = JOINTS[op].interval(node, sides)
    wrong, nearest = 0, float("inf")
    for _ in range(6):
        values = []
        for side in sides:
            share = torch.rand(side.lower.shape, generator=random) < 0.5
            values.append(torch.where(share, side.lower, side.upper))
        answers = _answers(node, values)
        flat = zip(exactly(low), answers, exactly(high), strict=True)
        wrong += sum(not (a <= value <= b) for a, value, b in flat)
        for number, start in enumerate(least):
            total = sum(r * v for r, v in zip(exactly(rows[number]), answers, strict=True))
            for part, value in zip(parts, values, strict=True):
                pairs = zip(exactly(part[number]), exactly(value), strict=True)
                total -= sum(c * v for c, v in pairs)
            wrong += total < start
            size = sum(abs(v) for v in answers) + abs(start)
            nearest = min(nearest, float((total - start) / size) if size else 0.0)
    return wrong, nearest


def _answers(node: Node, values: list[Tensor]) -> list[Fraction]:
    if node.op == "max-pool":
        return exactly(OPERATORS[node.op](node, *values))
    if node.op == "mul":
        x, y = torch.broadcast_tensors(*values)
        return [a * b for a, b in zip(exactly(x), exactly(y), strict=True)]
    x, y = values[0][0], values[1][0]
    return [
        sum(a * b for a, b in zip(exactly(row), exactly(column), strict=True))
        for row in x
        for column in y.T
    ]


@pytest.mark.parametrize("op", list(JOINTS))
def test_planes_are_below_at_corners_of_boxes(op: str) -> None:
    found = [joint_violations(op, seed) for seed in range(30)]
    assert sum(wrong for wrong, _ in found) == 0
    points = [nearest for seed, (_, nearest) in enumerate(found) if seed % 5 == 0]
    assert max(map(abs, points)) < 1e-12, "of points they are exact"


PRODUCT, TURNED = products.Mul.back, products._turned
PLANES = pooling._planes


def _wrong_corner(self, node, rows, sides, sums, place):
    x, y = sides
    return PRODUCT(self, node, rows, [x, Sides(y.upper, y.lower)], sums, place)


def _wrong_share(rows, x, y, place):
    for number, (part, low, ends) in enumerate(TURNED(rows, x, y, place)):
        yield part, low, ends[::-1] if number else ends


def _no_roundings(planted):
    def back(*given):
        found, sums = planted(*given), given[4]
        sums.error = torch.zeros_like(sums.error)
        return found

    return back


@pytest.mark.parametrize(
    ("op", "planted"),
    [
        ("mul", _wrong_corner),
        ("mul", _no_roundings(products.Mul.back)),
        ("matmul", _no_roundings(products.MatMul.back)),
        ("max-pool", _no_roundings(pooling.MaxPool.back)),
    ],
)
def test_planes_that_are_planted_too_high_are_caught(op, planted, monkeypatch) -> None:
    monkeypatch.setattr(type(JOINTS[op]), "back", planted)
    assert sum(joint_violations(op, seed)[0] for seed in range(30)) > 0


@pytest.mark.parametrize("op", ["mul", "matmul"])
def test_planes_mixed_with_wrong_ones_are_caught(op: str, monkeypatch) -> None:
    monkeypatch.setattr(products, "_turned", _wrong_share)
    assert sum(joint_violations(op, seed)[0] for seed in range(30)) > 0


@pytest.mark.parametrize("factors", [(2.0, 1.0, 1.0), (1.0, 0.5, 1.0), (1.0, 1.0, 0.0)])
def test_wrong_planes_of_windows_are_caught(factors, monkeypatch) -> None:
    """Weights, slopes and offsets that do not belong together."""

    def planted(lower, upper, place):
        found = PLANES(lower, upper, place)
        return [part * factor for part, factor in zip(found, factors, strict=True)]

    seeds = range(1, 30, 2)
    assert sum(joint_violations("max-pool", seed)[0] for seed in seeds) == 0
    monkeypatch.setattr(pooling, "_planes", planted)
    assert sum(joint_violations("max-pool", seed)[0] for seed in seeds) > 0


def test_what_is_unbounded_or_no_number_proves_nothing_false() -> None:
    """Windows of which nothing is known below, and parameters that are NaN or anything else."""
    claims = 0
    for seed in range(60):
        node, (shape,) = joint("max-pool", seed)
        random = torch.Generator().manual_seed(seed)
        middle, width, *draw = torch.rand(4, 1, *shape, generator=random, dtype=torch.float64)
        low = torch.where(draw[0] < (0.2, 0.97)[seed % 2], -torch.inf, middle - width)
        high = torch.where(draw[1] < (0.0, 0.2)[seed % 3 == 0], torch.inf, middle + width)
        rows = torch.randn(4, *node.shape, generator=random, dtype=torch.float64)
        place = 3 * torch.rand(2, 4, 6, *node.shape, generator=random, dtype=torch.float64) - 1
        if seed % 4 == 3:
            place[0, 1, 0], place[1, 2, 1] = torch.nan, torch.nan
        sums = Sums(len(rows), torch.float64)
        (part,) = pooling.MaxPool().back(node, rows, [Sides(low, high)], sums, (place[0], place[1]))
        least = sums.lower()
        for _ in range(8):
            share = torch.rand(low.shape, generator=random)
            x = torch.where(share < 0.5, low.clamp_min(-1e4), high.clamp_max(1e4))
            y = OPERATORS[node.op](node, x)
            value = (rows * y).flatten(1).sum(1) - (part * x).flatten(1).sum(1)
            claimed = torch.isfinite(least) & torch.isfinite(value)
            claims += int(claimed.sum())
            assert bool((least <= value + 1e-9 * (1 + value.abs()))[claimed].all())
    assert claims > 100


def test_weights_of_long_windows_are_charged_for_their_sum() -> None:
    """Of a thousand entries: all but one round to nothing beside the first, and add up."""
    count, half = 1000, 0.49 * 2**-52
    net = Net(0, (1, count))
    steps = {"stride": (count,), "padding": (0,), "dilation": (1,), "ceil_mode": False}
    node = prepare(net.add("max-pool", kernel=(count,), **steps).builder.graph(net.last))[net.last]
    low = torch.ones(1, 1, count, dtype=torch.float64)
    weights = torch.full((1, count, 1, 1), half, dtype=torch.float64)
    weights[0, 0] = 1.0
    sums = Sums(1, torch.float64)
    side = Sides(low, low + 2**-40)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    (part,) = pooling.MaxPool().back(node, one, [side], sums, (weights, weights))
    value = 1 - sum(exactly(part))
    assert value < 0, "the weights sum to more than one"
    assert Fraction(sums.lower().item()) <= value


def test_windows_are_those_of_the_operator() -> None:
    for seed, ceil in enumerate((True, False)):
        net = Net(seed, (3, 7, 6))
        options = {"kernel": (3, 2), "stride": (2, 3), "padding": (1, 1), "dilation": (1, 2)}
        node = prepare(net.add("max-pool", **options, ceil_mode=ceil).builder.graph(net.last))[
            net.last
        ]
        x = net.draw(1, 3, 7, 6)
        seen = pooling._windows(Sides(x, x), pooling._table_of(node))[0].amax(0)
        torch.testing.assert_close(seen.reshape(1, *node.shape), OPERATORS[node.op](node, x))


def test_the_largest_of_a_window_that_is_sure_costs_nothing() -> None:
    net = Net(0, (1, 4))
    net.add("max-pool", kernel=(2,), stride=(2,), padding=(0,), dilation=(1,), ceil_mode=False)
    node = prepare(net.builder.graph(net.last))[net.last]
    lower = torch.tensor([[[0.0, 2.0, -1.0, -1.5]]]).double()
    side = Sides(lower, lower + 1)
    assert pooling.MaxPool().loose(node, side).flatten().tolist() == [False, False, True, True]
    sums = Sums(1, torch.float64)
    (part,) = pooling.MaxPool().back(node, -torch.ones(1, 1, 2).double(), [side], sums)
    assert part.flatten()[:2].tolist() == [0.0, -1.0]
    assert -1.3 < sums.lower().item() < 0.2
