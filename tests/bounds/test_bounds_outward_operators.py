"""Single operators checked again: every curve against fifty digits."""

from __future__ import annotations

import math
from dataclasses import replace

import mpmath
import pytest
import torch
from bounds_exact import DIGITS, Exact, corners, curve, misses, written
from bounds_nets import CASES, CURVES, POSITIVE, Net, around, network
from torch import Tensor

from phalanx.bounds.outward import samples, smooth, steps, walk
from phalanx.bounds.outward.affine import adjoint, offset
from phalanx.bounds.outward.curves import gaps
from phalanx.bounds.outward.joints import JOINTS
from phalanx.bounds.outward.passes import Passes, uncovered
from phalanx.bounds.outward.picks import picked
from phalanx.bounds.outward.recheck import recheck
from phalanx.bounds.outward.sums import Sides, Sums
from phalanx.bounds.prepare import prepare
from phalanx.graph.ir import Graph, Node
from phalanx.graph.operators import OPERATORS

NEGATIVE = {"reciprocal negative": {}, "power pole": {"exponent": -3.0}}
TINY = {"power tenth": {"exponent": 0.1}, "power below": {"exponent": -1.5}}
POWER = smooth.power
ALL = {**CURVES, **POSITIVE, **NEGATIVE, **TINY}
WIDTHS = (0.0, 1e-300, 1e-15, 1e-8, 0.03, 0.7, 4.0, 40.0, 1e6)
CENTRES = (0.0, 1e-200, 1e-9, 0.4, 0.75, 1.6, 3.0, 20.0, 1e3)


def intervals(name: str) -> tuple[Tensor, Tensor]:
    """Tiny, huge and degenerate ones, on both sides of zero or where a curve is defined."""
    random = torch.Generator().manual_seed(len(name))
    centres = (*CENTRES, 1e15) if name in ("sin", "cos", "sign", "floor") else CENTRES
    pairs = [(c, w) for c in centres for w in WIDTHS]
    middle, width = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    share = torch.rand(len(pairs), generator=random, dtype=torch.float64)
    middle = middle * (1 + 1e-3 * share)
    low, high = middle - share * width, middle + (1 - share) * width
    low, high = torch.cat([low, -high]), torch.cat([high, -low])
    if name in POSITIVE or name in TINY:
        low = low.clamp_min(1e-300)
        high = high.maximum(low)
    elif name in NEGATIVE:
        high = high.clamp_max(-1e-100)
        low = low.minimum(high)
    if name in ("exp", "power even", "power pole", "power below"):  # what would overflow
        low, high = low.clamp(-600, 600), high.clamp(-600, 600)
    return low, high


def slopes(node: Node, low: Tensor, high: Tensor) -> list[Tensor]:
    """Horizontal, of the chord, of a tangent, and absurd ones."""
    value = OPERATORS[node.op](node, torch.stack([low, high]))
    chord = (value[1] - value[0]) / (high - low)
    step = 1e-3 * (high - low) + 1e-9
    middle = (low + high) / 2
    near = OPERATORS[node.op](node, torch.stack([middle, middle + step]))
    tangent = (near[1] - near[0]) / step
    found = [torch.zeros_like(low), chord, tangent, torch.full_like(low, -3.7)]
    return [s.nan_to_num(0.0, 0.0, 0.0).clamp(-1e30, 1e30).float().double() for s in found]


def places(node: Node, slope: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Where ``f(x) - s x`` may be least or largest ``(n, intervals)``, sought in floating point."""
    best = []
    for sign in (1.0, -1.0):
        near, reach = (low + high) / 2, (high - low) / 2
        for _ in range(3):
            x = near + reach * torch.linspace(-1, 1, 301, dtype=torch.float64)[:, None]
            x = x.maximum(low).minimum(high)
            rest = sign * (OPERATORS[node.op](node, x) - slope * x)
            near, reach = x.gather(0, rest.nan_to_num(torch.inf).argmin(0)[None])[0], reach / 100
        best.append(near)
    turns = [torch.full_like(low, c).maximum(low).minimum(high) for c in (0.0, -0.6, 0.9, -0.7518)]
    whole = [side.maximum(low).minimum(high) for side in (low.ceil(), high.floor(), high.ceil())]
    return torch.stack([low, high, *best, *turns, *whole])


def node_of(name: str) -> Node:
    return Node("f", name.partition(" ")[0], ("x",), (1,), ALL[name])


def violations(name: str) -> tuple[int, float, float]:
    """How often a line is on the wrong side, how far it is at most, how often there is none.

    Lines over wide intervals of what is sampled are not the nearest ones and do not count there.
    """
    node = node_of(name)
    low, high = intervals(name)
    measured = (high - low < (1.0 if node.op in samples.SAMPLED else torch.inf)).tolist()
    wrong, none, loosest = 0, 0, 0.0
    every = slopes(node, low, high)
    for slope in every:
        offset = [gaps(node, slope, low, high, above=above).tolist() for above in (False, True)]
        seen = places(node, slope, low, high).T.tolist()
        rows = zip(*offset, slope.tolist(), seen, measured, strict=True)
        for below, above, s, own, counts in rows:
            if not math.isfinite(above - below):
                none += 1
            with mpmath.workdps(DIGITS):
                rest = [curve(node, mpmath.mpf(v)) - mpmath.mpf(s) * mpmath.mpf(v) for v in own]
                size = 1 + max(abs(r) for r in rest) + max(abs(s * v) for v in own)
                # What is no number claims nothing.
                wrong += below > min(rest) or max(rest) > above
                far = max(min(rest) - below, above - max(rest)) / size
                loosest = max(loosest, float(far)) if counts and mpmath.isfinite(far) else loosest
    return wrong, loosest, none / (len(low) * len(every))


@pytest.mark.parametrize("name", ALL)
def test_lines_are_on_their_side(name: str) -> None:
    wrong, loosest, none = violations(name)
    assert not wrong
    assert loosest < (1e-2 if node_of(name).op in samples.SAMPLED else 1e-6)
    assert none < (0.8 if name in POSITIVE or name in NEGATIVE or name in TINY else 0.02)


@pytest.mark.parametrize(
    ("name", "room", "what", "planted"),
    [
        ("sin", samples, "NEAR", -1e-2),
        ("cos", samples, "TURN", 4 * math.pi),
        ("gelu", samples, "GELU_LEAST", {"none": -0.1699}),
        ("gelu", samples, "ULPS", 0),
        ("sin", samples, "SAMPLED", {"sin": samples.Sampled(0.0, samples.SAMPLED["sin"].range)}),
        ("power", smooth, "power", lambda p: replace(POWER(p), convex=(True, True))),
        ("power even", smooth, "ULPS", 0),
        ("floor", steps, "_of_floor", lambda low, high: [(low, low.floor()), (high, high.floor())]),
        ("sign", steps, "_of_sign", lambda low, high: [(low, low.sign()), (high, high.sign())]),
    ],
)
def test_lines_planted_on_the_wrong_side_are_caught(name, room, what, planted, monkeypatch):
    monkeypatch.setattr(room, what, planted)
    assert violations(name)[0] > 0


def test_everything_that_is_bounded_is_checked_again() -> None:
    assert [case for case in CASES if uncovered(prepare(network(case))) is not None] == []


@pytest.mark.parametrize("case", CASES)
def test_networks_against_exact_arithmetic(case: str) -> None:
    for seed, eps in enumerate((1e-8, 1.0)):
        own = network(case, seed)
        graph = prepare(own, exact=True).to(torch.float64)
        region = around(graph, eps, seed, batch=1)
        unit = torch.eye(3, dtype=torch.float64)
        found = recheck(graph, region, torch.cat([unit, -unit]))
        assert misses(written(own), region, found, seed) == 0
        if eps == 1e-8 and case not in ("sign", "floor"):
            assert torch.isfinite(found).all()


@pytest.mark.parametrize("case", ["quotient", "batch-norm", "avg-pool counted"])
def test_constants_are_those_of_the_file(case: str) -> None:
    """Where a search folds in single precision, what it folds is another network."""
    own, unit = network(case, 0).to(torch.float32), torch.eye(3, dtype=torch.float64)
    rows = torch.cat([unit, -unit])
    folded = prepare(own).to(torch.float64)
    region = around(folded, 1e-7, 0, batch=1)
    assert misses(written(own), region, recheck(folded, region, rows)) > 0
    exact = prepare(own, exact=True).to(torch.float64)
    assert misses(written(own), region, recheck(exact, region, rows)) == 0


def test_what_may_exceed_all_numbers_has_no_bound() -> None:
    net = Net(0, (1,))
    net.add("scale", tensors={"weight": torch.tensor([800.0]).double()})
    net.add("exp").add("log")
    graph = prepare(net.builder.graph(net.last))
    side = around(graph, 0.0, batch=1)
    region = type(side)(side.lower * 0 + 1, side.upper * 0 + 1, side.centre * 0 + 1)
    found = Passes(graph, region).sides[graph.output]
    assert found.upper.item() == float("inf"), "its exponential has no float, its logarithm is 800"


def test_rows_that_meet_boxes_meet_those_of_products() -> None:
    graph = prepare(network("mul")).to(torch.float64)
    last = graph[graph.output]
    graph = Graph(tuple(n for n in graph if n.name != last.name), last.inputs[0])
    while graph[graph.output].op != "mul":
        before = graph[graph.output].inputs[0]
        graph = Graph(tuple(n for n in graph if n.name != graph.output), before)
    passes = Passes(graph, around(graph, 0.3, batch=1))
    side, unit = passes.sides[graph.output], torch.eye(12, dtype=torch.float64).reshape(12, 3, 4)
    found = passes.by_boxes(torch.cat([unit, -unit]))
    ends = torch.cat([side.lower.flatten(), -side.upper.flatten()])
    torch.testing.assert_close(found, ends, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("op", ["linear", "conv"])
def test_rows_of_single_entries_are_those_of_the_adjoint(op: str, bias: bool) -> None:
    net = Net(3, (5,) if op == "linear" else (2, 6, 5))
    tensors = {"weight": net.draw(*((4, 5) if op == "linear" else (3, 2, 3, 2)))}
    tensors |= {"bias": net.draw(len(tensors["weight"]))} if bias else {}
    options = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 1}
    net.add(op, tensors=tensors, **(options if op == "conv" else {}))
    node = prepare(net.builder.graph(net.last))[net.last]
    count = math.prod(node.shape)
    unit = torch.diag(torch.arange(count, dtype=torch.float64).remainder(2) * 2 - 1)
    found = picked(node, torch.arange(count), unit.diagonal())
    assert found is not None
    rows = unit.reshape(-1, *node.shape)
    assert torch.equal(found[0], adjoint(node, rows)[0])
    assert torch.equal(found[1], (rows * offset(node, rows)).flatten(1).sum(1))


def test_entries_of_other_operators_have_no_rows_at_hand() -> None:
    for case in ("avg-pool", "conv-transpose"):
        graph = prepare(network(case))
        node = next(n for n in graph if n.op == case)
        assert picked(node, torch.tensor([0]), torch.ones(1).double()) is None


def deep(curve_of: str, seed: int) -> Graph:
    """Many inputs and layers, so that rows meet boxes on their way that were tightened before."""
    net, options = Net(seed, (20,)), ALL[curve_of]
    for _ in range(4):
        net.dense(16, 1.5).add(curve_of.partition(" ")[0], **options)
    return prepare(net.graph()).to(torch.float64)


@pytest.mark.parametrize("name", ["relu", "abs", "leaky-relu"])
def test_rows_that_boxes_settle_go_no_further(name: str, monkeypatch) -> None:
    settled = 0
    for seed, eps in enumerate((0.05, 0.1, 0.2)):
        graph = deep(name, seed)
        region = around(graph, eps, seed, batch=1)
        monkeypatch.setattr(walk, "FEW", 10**9)
        whole = Passes(graph, region)
        monkeypatch.setattr(walk, "FEW", 0)
        short = Passes(graph, region)
        unit = torch.eye(3, dtype=torch.float64)
        least = [passes.least(graph.output, unit) for passes in (short, whole)]
        torch.testing.assert_close(*least, rtol=1e-3, atol=1e-9)
        exact = Exact(graph)
        answers = [exact.values(x) for x in corners(graph, region, seed)]
        for node in graph:
            side, other = short.sides[node.name], whole.sides[node.name]
            ends = (side.lower.flatten().tolist(), side.upper.flatten().tolist())
            low, high = ([exact.number(v) for v in end] for end in ends)
            for value in answers:
                inside = zip(low, value[node.name].flatten(), high, strict=True)
                assert all(a <= v <= b for a, v, b in inside)
            settled += int((side.lower != other.lower).sum() + (side.upper != other.upper).sum())
    assert settled > 0


def test_zero_times_what_has_no_bound_is_no_sum() -> None:
    """A sum with such a term says nothing; a single product with zero is zero."""
    zero, wide = torch.zeros(1, 2, 2).double(), torch.full((1, 2, 2), math.inf).double()
    x, y = Sides(-torch.ones(1, 2, 2).double(), wide), Sides(zero, zero)
    rows = torch.ones(1, 2, 2, dtype=torch.float64)
    for op, least in (("matmul", -math.inf), ("mul", 0.0)):
        node = Node("z", op, ("x", "y"), (2, 2), {"inputs": ((2, 2), (2, 2))})
        sums = Sums(1, torch.float64)
        JOINTS[op].back(node, rows, [x, y], sums)
        assert sums.lower().item() == pytest.approx(least, abs=1e-270)
