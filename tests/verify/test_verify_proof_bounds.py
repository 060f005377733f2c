"""The checker's own arithmetic: operators, boxes and rows against torch and rational numbers."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from bab_nets import drawn
from proof_nets import OPERATORS, around
from verify_nets import case, exactly

from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.prepare import prepare
from phalanx.bounds.region import box as region_of
from phalanx.errors import GraphError
from phalanx.graph.ir import Graph, Node
from phalanx.graph.run import execute, run
from phalanx.verify.proof import operators
from phalanx.verify.proof.boxes import clipped
from phalanx.verify.proof.passes import Passes, net_of
from phalanx.verify.proof.rounding import above, below, charge
from phalanx.verify.proof.rows import Rows, weighed
from phalanx.verify.proof.signs import Closer


def boxes(graph: Graph, count: int, size: float) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(5)
    centre = draw.normal(size=(count, int(np.prod(graph.input.shape))))
    return centre - size, centre + size * draw.random(centre.shape)


def test_every_operator_is_here() -> None:
    assert {op.partition(" ")[0] for op in OPERATORS} == set(operators.OPERATORS)


@pytest.mark.parametrize("op", OPERATORS)
def test_operators_are_the_graphs(op: str) -> None:
    """Images as torch computes them; rows go back as the adjoint does."""
    graph, draw = around(op), np.random.default_rng(0)
    net, x = net_of(graph), torch.randn(3, *graph.input.shape, dtype=torch.float64)
    values = execute(Graph(net.nodes, net.output), x, lambda node: node, keep=True)
    for node in net.nodes:
        if node.name not in net.affine:
            continue
        made, inputs = net.affine[node.name], [values[name].numpy() for name in node.inputs]
        np.testing.assert_allclose(
            np.broadcast_to(made.linear(inputs) + made.offset, values[node.name].shape),
            values[node.name], rtol=0, atol=1e-12,
        )  # fmt: skip
        assert (made.size([abs(v) for v in inputs]) + 1e-12 >= abs(made.linear(inputs))).all()
        rows = draw.normal(size=(3, *node.shape))
        back = made.back(rows)
        wide = [np.broadcast_to(v, (3, *v.shape[1:])) for v in inputs]
        whole = (rows * made.linear(wide)).sum()
        there = sum((part * v).sum() for part, v in zip(back, wide, strict=True))
        assert there == pytest.approx(whole, abs=1e-9)
        assert [part.shape for part in back] == [v.shape for v in wide]


@pytest.mark.parametrize("op", OPERATORS)
def test_boxes_hold_and_are_those_of_crown(op: str) -> None:
    graph = around(op)
    net, (lower, upper) = net_of(graph), boxes(graph, 2, 0.2)
    passes = Passes(net, lower, upper)
    share = torch.rand(200, *lower.shape, dtype=torch.float64)
    share[:100] = share[:100].round()
    low, high = torch.from_numpy(lower), torch.from_numpy(upper)
    for box in range(2):
        x = (low + share * (high - low))[:, box].reshape(-1, *graph.input.shape)
        for name, value in execute(graph, x, lambda node: node, keep=True).items():
            side = passes.sides[name]
            at = min(box, len(side.lower) - 1)
            assert (value.numpy() >= side.lower[at] - 1e-12).all(), name
            assert (value.numpy() <= side.upper[at] + 1e-12).all(), name
    rows = torch.eye(3, dtype=torch.float64)
    own = Rows(lower[0], upper[0], rows.numpy(), None, np.zeros(3))
    found = weighed(passes, own, np.tile(np.eye(3), (2, 1)), np.repeat(np.arange(2), 3)).lower
    shape = graph.input.shape
    region = region_of(low.reshape(2, *shape), high.reshape(2, *shape))
    ready = prepare(graph).to(torch.float64)
    engine = Engine(ready, region, Settings())
    engine.bound_all()
    known = engine.least({ready.output: rows[:, None].expand(3, 2, 3)}, None).T.numpy()
    assert (known - 1e-6 <= found.reshape(2, 3)).all()
    assert (found.reshape(2, 3) <= known + 1e-6).all()


def test_company_changes_little_and_boxes_not() -> None:
    graph = around("conv")
    net, (lower, upper) = net_of(graph), boxes(graph, 3, 0.2)
    together, alone = Passes(net, lower, upper), Passes(net, lower[1:2], upper[1:2])
    for name, side in alone.sides.items():
        np.testing.assert_allclose(side.lower[0], together.sides[name].lower[1], atol=1e-10)


def test_other_operators_are_refused_by_name() -> None:
    graph = drawn(1, (3,))
    nodes = tuple(Node(n.name, "tanh", n.inputs, n.shape) if n.op == "relu" else n for n in graph)
    with pytest.raises(GraphError, match=r"'h0' \(tanh\) is not checked"):
        net_of(Graph(nodes, "y"))


@pytest.mark.parametrize("seed", range(6))
def test_sub_problems_hold_in_rational_arithmetic(seed: int) -> None:
    """Tolerance zero, whatever the slopes, multipliers and shares."""
    graph = drawn(seed, ((4, 3), (5,), (3, 2, 2))[seed % 3], skip=seed % 2 == 0)
    own, net, draw = case([[1.0, -0.3], [0.5, -1.0]], [0.1, -0.7]), net_of(graph), None
    rows = Rows.of(own, net)
    passes = Passes(net, rows.lower[None], rows.upper[None])
    units = [(n.name, e) for n in net.relus for e in range(n.shape[0])]
    draw = np.random.default_rng(seed)
    signs = draw.integers(-1, 2, (6, len(units))).astype(np.int8)
    slopes, weights = draw.random((2, 6, len(units)))
    shares = draw.random((6, 2))
    found = Closer(passes, rows, units).least(signs, slopes, weights, shares).lower
    assert np.isfinite(found).all()
    before = {node.name: node.inputs[0] for node in net.relus}
    for a, b in product(range(-4, 5), repeat=2):
        values = exactly(graph, [Fraction(a, 4), Fraction(b, 4)])
        for name, side in passes.sides.items():
            for value, low, high in zip(
                values[name], side.lower[0].ravel(), side.upper[0].ravel(), strict=True
            ):
                assert Fraction(float(low)) <= value <= Fraction(float(high))
        z = [values[before[name]][entry] for name, entry in units]
        y = values[graph.output]
        for d in range(6):
            if any(int(s) * v < 0 for s, v in zip(signs[d], z, strict=True)):
                continue
            mean = Fraction(0)
            for j in range(2):
                row = sum(Fraction(c) * v for c, v in zip(own.outputs[j].tolist(), y, strict=True))
                mean += Fraction(float(shares[d, j])) * (row + Fraction(own.offset[j].item()))
            for s, w, v in zip(signs[d], weights[d], z, strict=True):
                mean -= int(s) * Fraction(float(w)) * v
            assert Fraction(float(found[d])) <= mean


def test_roundings_of_large_numbers_are_charged() -> None:
    """1e16 + 1 - 1e16 is 0 in float64: neither side may forget the 1."""
    weight = torch.tensor([[1e16, 1.0, -1e16], [0, 0, 0]], dtype=torch.float64)
    bias = torch.zeros(2, dtype=torch.float64)
    first = {"weight": torch.ones(3, 1).double(), "bias": torch.zeros(3).double()}
    nodes = (
        Node("x", "input", (), (1,)),
        Node("z", "linear", ("x",), (3,), {}, first),
        Node("h", "relu", ("z",), (3,)),
        Node("y", "linear", ("h",), (2,), {}, {"weight": weight, "bias": bias}),
    )
    graph, one = Graph(nodes, "y"), np.ones((1, 1))
    side = Passes(net_of(graph), one, one).sides["y"]
    assert side.lower[0, 0] <= 1 <= side.upper[0, 0]
    assert run(graph, torch.ones(1, 1).double())[0, 0].item() in (0.0, 1.0, 2.0)


def test_charges_cover_sums_and_are_infinite_where_the_theory_ends() -> None:
    for terms in (0, 1, 50, 10**6):
        k = Fraction(terms + 1, 2**53)
        assert k / (1 - k) <= Fraction(charge(terms)) <= Fraction(102, 100) * k / (1 - k)
    assert charge(-1) == charge(2**50) == float("inf")


def test_numbers_next_to_one_another() -> None:
    x = np.array([-1.5, -0.0, 0.0, 1.0, 1e300])
    assert (below(x) < x).all()
    assert (above(x) > x).all()
    assert (above(below(x)) == x).all()
    made = Rows.of(case([[1.0, 0.0]], [0.5]), net_of(drawn(0, (2,))))
    assert (made.lower < -1).all()
    assert (made.upper > 1).all()
    assert made.offset[0] < 0.5


def test_a_box_is_empty_where_any_row_is_above_zero_and_clipped_where_rows_are_below() -> None:
    lower, upper = np.zeros((3, 2)), np.ones((3, 2))
    slopes = np.zeros((3, 2, 2))
    slopes[:, 1, 0] = 2.0
    constant = np.array([[1.0, -5.0], [-1.0, 0.5], [-1.0, -1.0]])
    low, high, empty = clipped(lower, upper, slopes, constant)
    assert empty.tolist() == [True, True, False]
    # What is left of the third is x_0 <= 1/2, and a little more.
    assert low.tolist() == lower.tolist()
    assert 0.5 <= high[2, 0] < 0.5 + 1e-9
    assert high[2, 1] == 1
    assert high[:2].tolist() == upper[:2].tolist()
