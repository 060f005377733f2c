"""Every registered method over every operator: bounds contain what the network can answer."""

from __future__ import annotations

import pytest
import torch
from bounds_checks import contains, enumerated, outputs, tighter
from bounds_nets import CASES, CURVES, LAYERS, Net, around, network, points, untested

from phalanx.bounds.front import compute
from phalanx.bounds.ops import Box, Curve, Lines, rows
from phalanx.bounds.options import Options
from phalanx.bounds.problem import methods
from phalanx.bounds.region import Region, box

METHODS = methods.names()
BY_LAYERS = Options(layers="layers")
SIZES = (1e-8, 0.5)


def test_every_operator_is_in_a_network() -> None:
    assert not untested()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_bounds_contain_every_answer(method: str, case: str) -> None:
    for seed, eps in enumerate(SIZES):
        graph = network(case, seed)
        region = around(graph, eps, seed)
        found = compute(graph, region, method=method, options=Options(iterations=4))
        contains(graph, region, found, count=50, steps=5 if eps > 0.1 else 0)


@pytest.mark.parametrize("curve", [None, "relu", "sigmoid", "abs"])
@pytest.mark.parametrize("method", METHODS)
def test_networks_that_end_in_curves_or_have_no_layers(method: str, curve: str | None) -> None:
    """Rows of the output with coefficients of both signs, such as margins are."""
    for seed, layers in enumerate((0, 1, 2)):
        net = Net(seed, (3,))
        for _ in range(layers):
            net.dense(3, 1.5).add("relu")
        net = net.add(curve) if curve else net
        graph = net.builder.graph(net.last)
        around_it = around(graph, 0.8, seed)
        rows = torch.tensor([[1.0, -1, 0], [-1, 0.5, 0.5], [-2, 3, 0.1]], dtype=torch.float64)
        for norm in ("linf", "l2"):
            region = Region(around_it.lower, around_it.upper, around_it.centre, norm, 0.7)
            found = compute(graph, region, method=method, rows=rows).lower
            reached = outputs(graph, points(region, 200)) @ rows.T
            assert bool((found <= reached.amin(0) + 1e-9).all()), (norm, layers)
            assert bool(torch.isfinite(found).all())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_bounds_contain_every_answer_of_many_networks(case: str) -> None:
    for seed in range(30):
        graph = network(case, 100 + seed)
        region = around(graph, 0.02 * 1.2**seed, seed)
        for method in METHODS:
            contains(graph, region, compute(graph, region, method=method))


DEAR = pytest.mark.slow  # of each pair one is enough for a first answer


@pytest.mark.parametrize("norm", ["l2", pytest.param("l1", marks=DEAR)])
@pytest.mark.parametrize("case", ["relu", "conv", pytest.param("sigmoid", marks=DEAR)])
def test_balls(norm: str, case: str) -> None:
    graph = network(case, 3)
    around_zero = around(graph, 0.5, 3)
    region = Region(around_zero.lower, around_zero.upper, around_zero.centre, norm, 0.4)
    for method in METHODS:
        found = compute(graph, region, method=method)
        contains(graph, region, found)
        wider = compute(graph, around_zero, method=method)
        if method in ("interval", "crown"):
            assert (found.lower >= wider.lower - 1e-9).all()


INTERVAL = (
    *("crown", "fast-lin", "crown-ibp", "forward", "zonotope", "alpha-crown", "lipschitz"),
    *("lp", "fast-c2v", "kpoly", "fastlip", "recurjac"),
)
CROWN = ("alpha-crown", "lp", "fast-c2v")


@pytest.mark.parametrize("case", ["relu", "sigmoid", "abs", "conv", "max-pool", "add", "matmul"])
def test_tighter_is_never_looser(case: str) -> None:
    for seed in range(2):
        graph = network(case, seed)
        pairs = [(method, "interval") for method in INTERVAL]
        pairs += [(method, "crown") for method in CROWN] + [("kpoly", "lp")]
        pairs += [("recurjac", "fastlip")]
        tighter(graph, around(graph, 0.3, seed), pairs)


def test_parallel_lines_are_those_of_zonotopes_and_adaptive_ones_are_others() -> None:
    """Fast-Lin and DeepZ relax a ReLU to the same two lines (Salman et al. 2019, section 4)."""
    graph = Net(1, (4,)).dense(9, 2.0).add("relu").graph()
    region = around(graph, 0.5, 1)
    parallel, other, adaptive = (
        compute(graph, region, method=name).lower for name in ("fast-lin", "zonotope", "crown")
    )
    torch.testing.assert_close(parallel, other)
    assert float((parallel - adaptive).abs().max()) > 1e-3


def test_optimised_layers_help() -> None:
    graph = network("relu", 2)
    region = around(graph, 0.6, 2)
    plain, final, layers = (
        compute(graph, region, method=method, options=Options(layers=which)).lower
        for method, which in (("crown", "none"), ("alpha-crown", "none"), ("alpha-crown", "layers"))
    )
    assert (final >= plain - 1e-9).all()
    assert final.mean() > plain.mean() + 1e-6
    assert layers.mean() > final.mean() + 1e-6
    contains(graph, region, compute(graph, region, method="alpha-crown", options=BY_LAYERS))
    full = compute(graph, region, method="alpha-crown", options=Options(layers="full"))
    assert full.lower.mean() > final.mean() + 1e-6
    contains(graph, region, full)


@pytest.mark.parametrize("case", ["max-pool", "matmul", "log", "conv-transpose", "concat"])
def test_in_full_over_other_operators(case: str) -> None:
    graph = network(case, 3)
    region = around(graph, 0.3, 3)
    options = Options(layers="full", iterations=4, slopes="shared")
    full = compute(graph, region, method="alpha-crown", options=options)
    assert (full.lower >= compute(graph, region).lower - 1e-9).all()
    contains(graph, region, full, count=50, steps=4)


def test_layers_that_nothing_movable_leads_to() -> None:
    """Bounds of a sum of sums are asked for, on the way to which there is no curve."""
    graph = Net(1, (4,)).dense(5).dense(6, 2.0).add("relu").dense(3).add("relu").graph()
    box = around(graph, 0.4, 1)
    for region in (box, Region(box.lower, box.upper, box.centre, "l2", 0.5)):
        found = compute(graph, region, method="alpha-crown", options=BY_LAYERS)
        contains(graph, region, found)
        assert (found.lower >= compute(graph, region).lower - 1e-9).all()


def test_rows_that_are_enough_are_left_alone() -> None:
    graph = network("relu", 2)
    region = around(graph, 0.6, 2)
    plain = compute(graph, region).lower
    for layers in ("none", "full"):
        options = Options(layers=layers, enough=-1e9)
        found = compute(graph, region, method="alpha-crown", options=options).lower
        torch.testing.assert_close(found, plain)


def test_one_hidden_layer_is_exact_where_no_sign_is_open_and_close_elsewhere() -> None:
    for seed in range(2):
        net = Net(seed, (3,)).dense(4, 2.0).add("relu").dense(2)
        graph = net.builder.graph(net.last)
        for eps in (1e-3, 0.3):
            region = around(graph, eps, seed)
            exact = enumerated(graph, region)
            for method in METHODS:
                found = compute(graph, region, method=method)
                assert (found.lower <= exact + 1e-7).all(), method
            crown = compute(graph, region)
            if eps < 0.01:  # no sign is open, as seeds go
                torch.testing.assert_close(crown.lower, exact, rtol=1e-6, atol=1e-6)


def test_an_affine_network_is_exact() -> None:
    net = Net(0, (4,)).dense(5).dense(3)
    graph = net.builder.graph(net.last)
    region = around(graph, 0.5)
    weights = [node.tensors for node in graph if node.op == "linear"]
    joint = weights[1]["weight"] @ weights[0]["weight"]
    shift = weights[1]["weight"] @ weights[0]["bias"] + weights[1]["bias"]
    middle, half = (region.lower + region.upper) / 2, (region.upper - region.lower) / 2
    exact = middle @ joint.T + shift - half @ joint.abs().T
    for method in METHODS:
        found = compute(graph, region, method=method).lower
        if method in (
            "op-norm",
            "eclipse",
        ):  # as if all sides were as long
            assert (found <= exact + 1e-12).all()
        else:
            torch.testing.assert_close(found, exact)


class TooTight(Curve):
    """The ReLU whose upper line lies 1% too low."""

    def interval(self, node, *boxes: Box) -> Box:
        return RELU.interval(node, *boxes)

    def lines(self, node, lower, upper, place) -> Lines:
        found = RELU.lines(node, lower, upper, place)
        assert found.upper_offset is not None
        return Lines(found.lower_slope, None, found.upper_slope, 0.99 * found.upper_offset)


RELU = rows.get("relu")


def test_a_relaxation_that_is_one_percent_too_tight_is_caught() -> None:
    line = {"weight": torch.ones(1, 1).double(), "bias": torch.zeros(1).double()}
    region = box(-torch.ones(1, 1).double(), torch.ones(1, 1).double())
    net = Net(1, (1,)).add("linear", tensors=line).add("relu").add("linear", tensors=line)
    graph = net.builder.graph(net.last)
    for method in ("crown", "zonotope"):
        contains(graph, region, compute(graph, region, method=method))
        rows.register("relu")(TooTight())
        try:
            with pytest.raises(AssertionError):
                contains(graph, region, compute(graph, region, method=method))
        finally:
            rows.register("relu")(RELU)


@pytest.mark.parametrize("case", [*CURVES, *LAYERS])
def test_lines_of_a_point_are_the_function(case: str) -> None:
    graph = network(case, 5)
    region = around(graph, 0.0, 5)
    found = compute(graph, region)
    expected = torch.stack([region.centre])
    values = outputs(graph, expected)[0]
    torch.testing.assert_close(found.lower, values, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found.upper, values, rtol=1e-7, atol=1e-7)
