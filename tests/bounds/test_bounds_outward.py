"""Bounds checked again: rounding is counted, and nothing that a search says is believed."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
import torch
from bounds_checks import outputs
from bounds_exact import Exact
from bounds_nets import CASES, Net, around, network, points
from torch import Tensor

from phalanx.bounds.front import compute
from phalanx.bounds.options import Options
from phalanx.bounds.outward.passes import Passes, uncovered
from phalanx.bounds.outward.recheck import (
    ALONE,
    all_positive,
    outward_ball,
    recheck,
    recheck_side_by_side,
)
from phalanx.bounds.prepare import prepare
from phalanx.bounds.problem import Trace
from phalanx.bounds.region import Region, box
from phalanx.errors import DataError, GraphError
from phalanx.graph.build import Builder
from phalanx.graph.ir import Graph
from phalanx.specs.threat import Threat

COVERED = [case for case in CASES if uncovered(prepare(network(case))) is None]


def both_sides(graph: Graph) -> Tensor:
    unit = torch.eye(graph[graph.output].shape[0], dtype=torch.float64)
    return torch.cat([unit, -unit])


def checked(graph: Graph, region: Region, trace: Trace | None = None, element: int = 0) -> Tensor:
    ready = prepare(graph).to(torch.float64)
    return recheck(ready, region.element(element), both_sides(ready), trace, element)


def test_what_is_covered() -> None:
    assert set(COVERED) == set(CASES)
    graph = network("softmax").to(torch.float64)  # not prepared
    with pytest.raises(GraphError, match="softmax"):
        recheck(graph, around(graph, 0.1, batch=1), both_sides(graph))


@pytest.mark.parametrize("case", COVERED)
def test_they_contain_every_answer_and_lose_little(case: str) -> None:
    for seed, eps in enumerate((1e-8, 0.3)):
        graph = network(case, seed)
        region = around(graph, eps, seed, batch=1)
        values = outputs(graph, points(region, 200))
        for trace in (Trace(), Trace(backward=False), Trace(parallel=True)):
            found = checked(graph, region, trace)
            assert (found <= torch.cat([values, -values], 2).amin((0, 1))).all()
        search = compute(graph, region, method="crown")
        assert search.upper is not None
        sought = torch.cat([search.lower, -search.upper], 1)[0]
        size = 1 + sought.abs()
        lost = sought - checked(graph, region)
        loosest = 0.3 if case in ("exp", "square") else 1e-9  # other lines, where they are open
        assert (lost <= loosest * size).all()
        if case in ("relu", "conv", "leaky-relu", "abs"):
            assert (lost >= 0).all(), "nothing was taken off"


def exact_least(rows: list[list[Fraction]], constants: list[Fraction], region: Region) -> Fraction:
    """The least value of ``w . x + b`` on a box, of the first row, in rationals."""
    least = constants[0]
    for w, low, high in zip(
        rows[0], region.lower.flatten().tolist(), region.upper.flatten().tolist(), strict=True
    ):
        least += w * Fraction(low if w > 0 else high)
    return least


def test_linear_networks_in_rationals() -> None:
    wrong = 0
    for seed in range(120):
        net = Net(seed, (6,))
        scale = 10.0 ** (seed % 9 - 4)
        weights = [(scale * net.draw(5, 6)).float(), net.draw(1, 5).float()]
        biases = [net.draw(5).float(), net.draw(1).float()]
        for weight, bias in zip(weights, biases, strict=True):
            net.add("linear", tensors={"weight": weight, "bias": bias})
        graph = net.builder.graph(net.last)
        x = net.draw(1, 6).float()
        eps = 0.01
        region = box((x - eps).double(), (x + eps).double())
        first, second = ([[Fraction(v) for v in row] for row in w.tolist()] for w in weights)
        product = [sum(second[0][k] * first[k][j] for k in range(5)) for j in range(6)]
        constant = sum(
            (second[0][k] * Fraction(biases[0][k].item()) for k in range(5)),
            Fraction(biases[1].item()),
        )
        exact = exact_least([product], [constant], region)
        ready = prepare(graph)
        plain = compute(ready, box(x - eps, x + eps), method="crown").lower.item()
        wrong += Fraction(plain) > exact
        found = recheck(ready.to(torch.float64), region, torch.ones(1, 1)).item()
        assert Fraction(found) <= exact
        assert float(exact) - found <= 1e-12 * (1 + abs(float(exact)) + scale)
    assert wrong > 20, "single precision is wrong now and then, or this test shows nothing"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bound_too_tight_by_a_part_in_a_thousand_million_is_not_confirmed(sign: int) -> None:
    for seed in range(20):
        graph = network("relu" if seed % 2 else "conv", seed)
        region = around(graph, 1e-3, seed, batch=1)
        found = compute(graph, region, method="crown")
        true = found.lower[0, 0]  # on so small a region hardly any ReLU is open: nearly exact
        claimed = true - sign * 1e-9 * true.abs()
        ready = prepare(graph).to(torch.float64)
        last = ready[ready.output]
        bias = last.tensors["bias"].clone()
        bias[0] -= claimed
        shifted = Graph(
            tuple(
                type(n)(n.name, n.op, n.inputs, n.shape, n.attributes, {**n.tensors, "bias": bias})
                if n.name == last.name else n
                for n in ready.nodes
            ),
            ready.output,
        )  # fmt: skip
        rows = torch.eye(3, dtype=torch.float64)[:1]
        assert all_positive(recheck(shifted, region, rows)) is (sign > 0)


def absorbing() -> Graph:
    """``0.5 - relu(relu(x + 2^25) - 2^25)``: single precision loses x, whose maximum is 1."""
    big = 2.0**25
    builder = Builder((1,))
    one, last = torch.ones(1, 1), builder.input
    for weight, bias, curve in ((one, big, True), (one, -big, True), (-one, 0.5, False)):
        tensors = {"weight": weight, "bias": torch.tensor([bias])}
        last = builder.add("linear", [last], tensors=tensors)
        last = builder.add("relu", [last]) if curve else last
    return builder.graph(last)


@pytest.mark.parametrize("method", ["interval", "crown", "alpha-crown", "zonotope"])
def test_a_network_that_absorbs_its_input(method: str) -> None:
    graph = absorbing()
    region = Region(torch.zeros(1, 1), torch.ones(1, 1), torch.full((1, 1), 0.5))
    found = compute(graph, region, method=method)
    assert found.lower.item() > 0, "single precision certifies what is false"
    ready = prepare(graph).to(torch.float64)
    again = recheck(ready, region.to(torch.float64), torch.ones(1, 1), found.trace)
    assert again.item() <= -0.5
    assert again.item() > -0.5 - 1e-6


def test_the_slopes_of_an_optimiser_are_used_and_not_believed() -> None:
    graph = network("relu", 5)
    region = around(graph, 0.8, 5, batch=2)
    rows = both_sides(graph)
    found = compute(graph, region, method="alpha-crown", rows=rows, options=Options(iterations=30))
    plain = compute(graph, region, method="crown", rows=rows)
    for element in (0, 1):
        again = checked(graph, region, found.trace, element)
        assert (found.lower[element] - again).abs().max() < 1e-9
    assert (found.lower > plain.lower + 1e-3).any()
    lying = Trace(places={k: torch.full_like(v, 7.0) for k, v in found.trace.places.items()})
    values = outputs(graph, points(region, 300))
    least = torch.cat([values, -values], 2).amin(0)
    assert (checked(graph, region, lying) <= least[0]).all()


@pytest.mark.parametrize("slopes", ["rows", "shared"])
@pytest.mark.parametrize("case", ["relu", "conv", "sigmoid"])
def test_bounds_in_between_that_were_optimised_are_found_again(case: str, slopes: str) -> None:
    graph = network(case, 5)
    region = around(graph, 0.6, 5, batch=2)
    rows, options = both_sides(graph), Options(layers="full", slopes=slopes, iterations=15)
    found = compute(graph, region, method="alpha-crown", rows=rows, options=options)
    final = compute(graph, region, method="alpha-crown", rows=rows)
    values = outputs(graph, points(region, 300))
    assert (found.lower <= torch.cat([values, -values], 2).amin(0)).all()
    assert found.lower.mean() > final.lower.mean() + (0 if case == "sigmoid" else 1e-4)
    for element in (0, 1):
        again = checked(graph, region, found.trace, element)
        # Over the best boxes of all steps a sigmoid's line may lie a hair lower than over those of
        # the step in which its slope was found.
        loss = (1e-5 if case == "sigmoid" else 1e-6) * (1 + again.abs())
        assert (again >= found.lower[element] - loss).all()
        assert (again <= torch.cat([values, -values], 2).amin(0)[element]).all()


def test_passes_begin_where_others_over_the_region_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others left is cut with, and slopes that others followed are not followed again."""
    walked: list[int] = []
    walk = Passes.least_of
    monkeypatch.setattr(
        Passes, "least_of", lambda self, *a, **k: walked.append(1) or walk(self, *a, **k)
    )
    graph = prepare(network("conv", 5)).to(torch.float64)
    region = around(graph, 0.6, 5, batch=1)
    options, rows = Options(layers="full", iterations=15), both_sides(graph)
    trace = compute(graph, region, method="alpha-crown", rows=rows, options=options).trace
    between = trace.between[0]
    assert len(between) > 1
    plain, alone = Passes(graph, region), Passes(graph, region, between=between)
    walked.clear()
    both = Passes(graph, region, between=between, known=plain.left)
    assert walked, "slopes are followed once"
    walked.clear()
    again = Passes(graph, region, between=between, known=both.left)
    assert not walked
    values = Exact(graph).values(points(region, 1)[0, 0])
    tighter = 0
    for name, side in both.sides.items():
        assert torch.equal(again.sides[name].lower, side.lower)
        assert torch.equal(again.sides[name].upper, side.upper)
        for other in (plain, alone):
            assert (side.lower >= other.sides[name].lower - 1e-6).all()
            assert (side.upper <= other.sides[name].upper + 1e-6).all()
        tighter += int((side.lower > plain.sides[name].lower + 1e-6).sum())
        inside = zip(side.lower.flatten().tolist(), values[name].flatten(), strict=True)
        assert all(Fraction(low) <= value for low, value in inside)
    assert tighter > 0


@pytest.mark.parametrize(
    "method", ["interval", "fast-lin", "crown-ibp", "forward", "zonotope", "alpha-crown"]
)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_what_a_method_finds_is_found_again(method: str, norm: str) -> None:
    for seed in range(3):
        shift = {"bias": torch.full((12,), 0.3).double()}
        net = (
            Net(seed, (12,))
            .add("scale", tensors=shift)
            .dense(40)
            .add("relu")
            .dense(40)
            .add("relu")
            .dense(40)
            .add("relu")
        )
        graph = prepare(net.graph(), exact=True)
        middle = torch.zeros(1, 12, dtype=torch.float64)
        region = outward_ball(Threat(norm, 0.05, -1.0, 1.0), middle)
        rows = both_sides(graph)
        search = compute(graph, region, method=method, rows=rows)
        found = recheck(graph, region, rows, search.trace)
        assert (found >= search.lower[0] - 1e-9 * (1 + search.lower[0].abs())).all()


def test_a_shift_that_repeats_numbers_is_no_ball() -> None:
    """Three copies of a number move together: a row of ones reaches three times as far."""
    builder = Builder((1,))
    shift = {"bias": torch.tensor([[0.0], [0.125], [0.25]]).double()}
    last = builder.add("scale", [builder.input], tensors=shift)
    last = builder.add("reshape", [last], shape=(3,))
    last = builder.add("linear", [last], tensors={"weight": torch.ones(1, 3).double()})
    last = builder.add("relu", [last])
    graph = prepare(builder.graph(last), exact=True)
    region = outward_ball(Threat("l2", 0.1, -1.0, 1.0), torch.full((1, 1), 0.5).double())
    least = recheck(graph, region, torch.ones(1, 1).double(), Trace(backward=False))
    assert 1.57 < float(least) <= 1.575


def test_balls() -> None:
    for norm in ("l2", "l1"):
        for case in ("relu", "conv"):
            graph = network(case, 3)
            boxes = around(graph, 0.5, 3, batch=1)
            region = Region(boxes.lower, boxes.upper, boxes.centre, norm, 0.4)
            values = outputs(graph, points(region, 300))
            found = checked(graph, region)
            assert (found <= torch.cat([values, -values], 2).amin((0, 1))).all()
            search = compute(graph, region, rows=both_sides(graph)).lower[0]
            assert ((search - found).abs() < 1e-9).all()


def test_regions_leave_nothing_out() -> None:
    for x in torch.rand(50, 1, 3):
        region = outward_ball(Threat("linf", 0.1), x)
        for value, low, high in zip(
            x.flatten().tolist(), region.lower.flatten().tolist(), region.upper.flatten().tolist(),
            strict=True,
        ):  # fmt: skip
            assert Fraction(low) <= max(Fraction(value) - Fraction(0.1), 0)
            assert Fraction(high) >= min(Fraction(value) + Fraction(0.1), 1)
    with pytest.raises(DataError):
        outward_ball(Threat("linf", 0.1), torch.tensor([[float("nan")]]))
    with pytest.raises(DataError):
        recheck(prepare(network("relu")), around(network("relu"), 0.1), torch.ones(1, 3))


@pytest.mark.parametrize("case", COVERED)
def test_boxes_side_by_side_are_bounded_as_each_is_alone(case: str) -> None:
    """Each has a row of its own; boxes of different sizes and rows do not touch one another."""
    for seed in range(3):
        graph = prepare(network(case, seed)).to(torch.float64)
        near, far = around(graph, 0.02, seed, batch=3), around(graph, 0.3, seed + 9, batch=3)
        region = box(torch.cat([near.lower, far.lower]), torch.cat([near.upper, far.upper]))
        draw = torch.Generator().manual_seed(seed)
        size = (len(region), *graph[graph.output].shape)
        rows = torch.randn(size, generator=draw, dtype=torch.float64)
        found = recheck_side_by_side(graph, region, rows)
        if found is None:
            assert not all(node.op in ALONE for node in graph)
            continue
        for at, row in enumerate(rows):
            own = region.element(at)
            alone = recheck(graph, own, row[None], Trace(backward=False))[0]
            apart = 0.01 if case == "exp" else 1e-12  # its largest value is e to the e to the ...
            assert abs(found[at] - alone) <= apart * (1 + alone.abs())
            values = outputs(graph, points(own, 100))[0] @ row.flatten()
            assert found[at] <= values.min()


def test_boxes_side_by_side_are_below_rationals() -> None:
    """An affine network: its least values in rational numbers, at every scale."""
    for seed in range(30):
        graph = prepare(Net(seed, (3,)).dense(4).graph()).to(torch.float64)
        exact, draw = Exact(graph), torch.Generator().manual_seed(seed)
        centre = torch.randn(5, 3, generator=draw, dtype=torch.float64) * 10.0 ** (seed % 9 - 4)
        region = box(centre, centre + torch.rand(5, 3, generator=draw, dtype=torch.float64))
        rows = torch.randn(5, 3, generator=draw, dtype=torch.float64)
        found = recheck_side_by_side(graph, region, rows)
        assert found is not None
        for at, bound in enumerate(found.tolist()):
            pairs = zip(region.lower[at].tolist(), region.upper[at].tolist(), strict=True)
            corners = [torch.tensor(x, dtype=torch.float64) for x in itertools.product(*pairs)]
            ys = [exact.values(x)[graph.output] for x in corners]
            row = [Fraction(w) for w in rows[at].tolist()]
            least = min(sum(w * y for w, y in zip(row, y, strict=True)) for y in ys)
            assert Fraction(bound) <= least
            assert float(least) - bound < 1e-9 * (1 + abs(float(least)))


def test_boxes_side_by_side_need_a_row_each() -> None:
    graph = prepare(network("relu")).to(torch.float64)
    region = around(graph, 0.1, batch=3)
    with pytest.raises(DataError, match="2 rows over 3 regions"):
        recheck_side_by_side(graph, region, both_sides(graph)[:2])
