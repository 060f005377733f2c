"""Networks as linear programs: what is written down, what is made of multipliers, what is exact."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bounds_checks import contains, enumerated, outputs
from bounds_nets import CASES, CURVES, Net, around, network, points
from torch import Tensor

from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.front import compute
from phalanx.bounds.ops import Affine, Box, rows
from phalanx.bounds.options import Options
from phalanx.bounds.outward.recheck import recheck
from phalanx.bounds.prepare import prepare
from phalanx.bounds.programs import branching
from phalanx.bounds.programs import solver as solving
from phalanx.bounds.programs.encode import Encoding, Sheet, encode, encodings
from phalanx.bounds.programs.exact import least_exactly
from phalanx.bounds.programs.lines import family
from phalanx.bounds.programs.matrices import Matrices, matrices, offset
from phalanx.bounds.programs.multipliers import least_by_multipliers
from phalanx.bounds.programs.program import Draft, Forms, Program, stacked
from phalanx.bounds.programs.solver import Solver, Status
from phalanx.bounds.programs.sum_cuts import sum_cuts
from phalanx.bounds.region import Region, box
from phalanx.errors import DataError, MissingDependencyError, ParameterError
from phalanx.graph.ir import Graph
from phalanx.graph.operators import OPERATORS
from phalanx.graph.run import execute


def boxed(case: str, eps: float = 0.3, seed: int = 1) -> tuple[Graph, Region, Engine]:
    graph = prepare(network(case, seed))
    region = around(graph, eps, seed)
    engine = Engine(graph, region, Settings())
    engine.bound_all()
    return graph, region, engine


def fixed(encoding: Encoding, x: Tensor) -> Encoding:
    """The encoding with its input at a point."""
    at, program = x.flatten().numpy(), encoding.program
    lower = np.concatenate([at, program.lower[encoding.inputs :]])
    upper = np.concatenate([at, program.upper[encoding.inputs :]])
    return replace(encoding, program=program.within(lower, upper))


def one(size: int, index: int, sign: float = 1.0) -> np.ndarray:
    found = np.zeros(size)
    found[index] = sign
    return found


def test_forms_are_affine_functions() -> None:
    random = np.random.default_rng(0)
    draft = Draft()
    columns = draft.add_columns(np.zeros(4), np.ones(4))
    base, point = draft.forms(columns), random.random(4)
    weights, shift = random.standard_normal((3, 4)), random.standard_normal(3)
    from scipy.sparse import csr_array

    image = base.through(csr_array(weights)).plus(Forms.constant(shift))
    np.testing.assert_allclose(image.at(point), weights @ point + shift)
    twice = image.minus(image.times(np.array([2.0, 0.0, 1.0])))
    np.testing.assert_allclose(twice.at(point), np.array([-1, 1, 0]) * image.at(point), atol=1e-15)
    both = stacked([image.take(np.array([2])), base])
    np.testing.assert_allclose(both.at(point), np.append(image.at(point)[2], point))


@pytest.mark.parametrize("case", CASES)
def test_matrices_are_the_operators(case: str) -> None:
    graph = prepare(network(case, 2))
    x = points(around(graph, 0.5), 1)[0][:1]
    values = execute(graph, x, lambda node: node, keep=True)
    for node in graph:
        if not node.inputs or not isinstance(rows.get(node.op), Affine):
            continue
        found = offset(node)
        for name, weights in zip(node.inputs, matrices(node), strict=True):
            found = found + weights @ values[name][0].flatten().numpy()
        inputs = [values[name] for name in node.inputs]
        expected = OPERATORS[node.op](node, *inputs)[0].flatten().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_every_run_of_the_network_is_in_its_program(case: str, exact: bool) -> None:
    if case in ("exp", "power", "power even"):
        pytest.skip("numbers beyond what a solver with tolerances can tell apart")
    graph, region, engine = boxed(case)
    for element in (1,):  # the largest box
        encoding = encode(graph, engine.boxes, element, exact=exact)
        for x in points(region, 4)[1:3, element]:
            value = outputs(graph, x[None, None])[0, 0].numpy()
            at = fixed(encoding, x)
            for index in range(2):
                low, high = (
                    _least(at, *encoding.cost(graph.output, one(3, index, sign)), exact)
                    for sign in (1.0, -1.0)
                )
                slack = 2e-6 * (1 + abs(value[index]))
                assert low <= value[index] + slack
                assert -high >= value[index] - slack
                if encoding.complete:
                    assert abs(low - value[index]) <= slack
                    assert abs(high + value[index]) <= slack


def _least(encoding: Encoding, cost: np.ndarray, constant: float, exact: bool) -> float:
    if exact:
        found = least_exactly(encoding, cost, constant)
        assert found.status is Status.OPTIMAL
        return found.claimed
    solution = Solver(encoding.program).least(cost, constant)
    assert solution.status is Status.OPTIMAL
    return solution.bound


def test_what_is_complete() -> None:
    complete = {"relu", "leaky-relu falling", "abs", "clip", "conv", "max-pool", "add", "softmax"}
    for case in complete:
        graph, _, engine = boxed(case)
        found = encode(graph, engine.boxes, exact=True)
        assert found.complete == (case != "softmax")
        assert found.program.whole.any()


@pytest.mark.parametrize("case", [case for case in CURVES if case != "power even"])
def test_lines_are_on_their_side(case: str) -> None:
    graph = prepare(network(case, 0))
    node = next(n for n in graph if n.op == case.partition(" ")[0])
    random = torch.Generator().manual_seed(0)
    lower = 4 * torch.rand(200, generator=random, dtype=torch.float64) - 3
    upper = lower + 3 * torch.rand(200, generator=random, dtype=torch.float64).square()
    below, above = family(rows.get(node.op), node, lower.numpy(), upper.numpy())
    assert below
    assert above
    for share in torch.linspace(0, 1, 33, dtype=torch.float64):
        x = lower + share * (upper - lower)
        y = OPERATORS[node.op](node, x).numpy()
        for slope, shift, there in below:
            assert (slope * x.numpy() + shift <= y + 1e-9)[there].all()
        for slope, shift, there in above:
            assert (slope * x.numpy() + shift >= y - 1e-9)[there].all()


def small(seed: int, hidden: int = 4) -> Graph:
    net = Net(seed, (3,)).dense(hidden, 2.0).add("relu").dense(2)
    return net.builder.graph(net.last)


def test_the_exact_minimum_is_that_of_all_patterns() -> None:
    for seed in range(3):
        graph = prepare(small(seed))
        region = around(graph, 0.7, seed)
        engine = Engine(graph, region, Settings())
        engine.bound_all()
        expected = enumerated(graph, region)
        for element in range(len(region)):
            encoding = encode(graph, engine.boxes, element, exact=True)
            assert encoding.complete
            for index in range(2):
                cost, constant = encoding.cost(graph.output, one(2, index))
                found = least_exactly(encoding, cost, constant)
                assert abs(found.claimed - expected[element, index]) < 1e-6
                assert found.proven <= expected[element, index] + 1e-9
                assert found.point is not None
                x = torch.from_numpy(found.point[: encoding.inputs]).reshape(1, 1, 3)
                assert abs(outputs(graph, x)[0, 0, index] - found.claimed) < 1e-6


def test_one_hidden_layer_is_the_closed_form() -> None:
    """``y = -relu(x)`` summed over two inputs: the chords' sum at the upper ends."""
    line = {"weight": torch.eye(2).double(), "bias": torch.zeros(2).double()}
    last = {"weight": torch.tensor([[-1.0, 2.0]]).double(), "bias": torch.ones(1).double()}
    net = Net(0, (2,)).add("linear", tensors=line).add("relu").add("linear", tensors=last)
    graph = net.builder.graph(net.last)
    region = box(torch.tensor([[-1.0, -2.0]]).double(), torch.tensor([[3.0, 1.0]]).double())
    found = compute(graph, region, method="lp")
    # least: -relu(3) + 2 relu(0) + 1; largest: -0 + 2 relu(1) + 1, both on the box's corners.
    assert abs(found.lower.item() + 2) < 1e-9
    assert found.upper is not None
    assert abs(found.upper.item() - 3) < 1e-9


def deep(seed: int) -> Graph:
    net = Net(seed, (4,)).dense(8, 2.0).add("relu").dense(8, 2.0).add("relu").dense(6)
    net.add("leaky-relu", slope=0.2).dense(2)
    return net.builder.graph(net.last)


def test_lines_alone_converge_to_the_program() -> None:
    for seed in range(2):
        graph = deep(seed)
        region = around(graph, 0.4, seed)
        program = compute(graph, region, method="lp")
        crown = compute(graph, region, method="crown")
        options = Options(iterations=300)
        alpha = compute(graph, region, method="alpha-crown", options=options)
        assert (program.lower >= alpha.lower - 1e-9).all()
        torch.testing.assert_close(program.lower, alpha.lower, rtol=2e-3, atol=2e-3)
        assert (program.lower - crown.lower).max() > 0.01


def test_the_multipliers_are_slopes_that_hold_outward() -> None:
    for seed in range(2):
        graph = prepare(deep(seed)).to(torch.float64)
        region = around(graph, 0.4, seed)
        found = compute(graph, region, method="lp")
        assert found.upper is not None
        unit = torch.eye(2).double()
        for element in range(len(region)):
            sure = recheck(
                graph, region.element(element), torch.cat([unit, -unit]), found.trace, element
            )
            sought = torch.cat([found.lower[element], -found.upper[element]])
            torch.testing.assert_close(sure, sought, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_balls_are_more_than_their_boxes(norm: str) -> None:
    graph = deep(0)
    wide = around(graph, 0.4)
    region = Region(wide.lower, wide.upper, wide.centre, norm, 0.3)
    found = compute(graph, region, method="lp")
    contains(graph, region, found)
    assert (found.lower >= compute(graph, region).lower - 1e-9).all()
    assert (found.lower > compute(graph, wide, method="lp").lower + 1e-3).any()


def test_company_changes_nothing() -> None:
    graph, region, _ = boxed("conv")
    together = compute(graph, region, method="lp").lower
    alone = [compute(graph, region.element(i), method="lp").lower for i in range(len(region))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-7, atol=1e-7)


def program_of_halves() -> Program:
    """``x + y >= 1`` and ``x - y = 0`` on the unit square."""
    draft = Draft()
    x, y = (draft.forms(draft.add_columns(np.zeros(1), np.ones(1))) for _ in range(2))
    draft.between(x.plus(y), 1.0, math.inf)
    draft.between(x.minus(y), 0.0, 0.0)
    return draft.program()


def test_any_multipliers_give_a_bound_and_none_gives_a_wrong_one() -> None:
    program, cost = program_of_halves(), np.array([1.0, 2.0])
    random = np.random.default_rng(0)
    found = [least_by_multipliers(program, cost, 3 * random.standard_normal(2)) for _ in range(500)]
    assert max(found) <= 1.5
    assert 1.5 - 1e-12 < least_by_multipliers(program, cost, np.array([1.5, -0.5])) < 1.5
    for strange in (math.nan, math.inf, -math.inf):
        assert least_by_multipliers(program, cost, np.array([strange, 0.0])) <= 1.5
        assert least_by_multipliers(program, np.array([strange, 0.0]), np.zeros(2)) == -math.inf


def test_a_column_without_bounds_bounds_nothing() -> None:
    draft = Draft()
    draft.add_columns(np.array([-math.inf, 0.0]), np.array([math.inf, 1.0]))
    program = draft.program()
    assert least_by_multipliers(program, np.array([1e-300, 0.0]), np.empty(0)) == -math.inf
    assert -1e-12 < least_by_multipliers(program, np.array([0.0, 1.0]), np.empty(0)) <= 0


def test_rows_are_added_to_a_solver() -> None:
    solver = Solver(program_of_halves())
    assert abs(solver.least(np.ones(2)).bound - 1) < 1e-9
    added = Forms.of_columns(np.array([0]), 2)
    solver.add(added.matrix, np.array([0.75]), np.array([math.inf]))
    assert abs(solver.least(np.ones(2)).bound - 1.5) < 1e-9
    assert abs(solver.least(np.array([1.0, 0.0])).bound - 0.75) < 1e-9


def test_that_a_program_is_empty_is_said_and_claims_no_bound() -> None:
    draft = Draft()
    x = draft.forms(draft.add_columns(np.zeros(1), np.ones(1), whole=True))
    draft.between(x, 0.25, 0.75)
    empty = Encoding(draft.program(), {}, 1, True, {})
    found = least_exactly(empty, np.ones(1))
    assert (found.status, found.claimed, found.point) == (Status.INFEASIBLE, -math.inf, None)
    assert found.proven <= 0.25, "the relaxation is not empty"


@pytest.mark.parametrize(("ray", "empty"), [([0.0], False), ([1.0], True), ([-1.0], True)])
def test_a_program_is_empty_where_multipliers_show_it(
    ray: list[float], empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A solver's ray is not believed: one that shows nothing, zero above all, refutes nothing."""
    draft = Draft()
    x = draft.forms(draft.add_columns(np.zeros(1), np.ones(1)))
    draft.between(x, 2.0, 3.0)
    solver = Solver(draft.program())
    told = SimpleNamespace(getDualRay=lambda: (None, True, ray))
    monkeypatch.setattr(solver, "_highs", told)
    assert solver._empty() is empty
    monkeypatch.setattr(solving, "least_by_multipliers", lambda *given: 0.0)
    assert not solver._empty(), "zero is not above zero"


def test_only_cuts_that_a_point_violates_are_added() -> None:
    random, count = np.random.default_rng(0), 0
    for seed in range(4):
        graph = prepare(network("relu", seed))
        engine = Engine(graph, around(graph, 0.6, seed, batch=1), Settings())
        engine.bound_all()
        separate, encoding = sum_cuts(engine, Matrices(), 0), encode(graph, engine.boxes)
        for _ in range(4):
            cost, _ = encoding.cost(graph.output, random.standard_normal(3))
            point = Solver(encoding.program).least(cost).point
            assert point is not None
            for cuts in separate(encoding, point):
                assert (cuts.forms.at(point) > cuts.most).all()
                count += len(cuts.most)
    assert count > 0


@pytest.mark.parametrize("lower", [-1.5, -math.inf])
def test_floors_of_bounded_numbers_alone_get_a_whole_number(lower: float) -> None:
    net = Net(0, (1,)).dense(2).add("floor")
    graph = prepare(net.builder.graph(net.last))
    argument = graph[graph.output].inputs[0]
    ends = torch.tensor([[lower, 0.5]]).double(), torch.tensor([[2.5, 0.75]]).double()
    boxes = {
        graph.input.name: Box(-torch.ones(1, 1).double(), torch.ones(1, 1).double()),
        argument: Box(*ends),
        graph.output: Box(*(end.floor() for end in ends)),
    }
    program = encode(graph, boxes, exact=True).program
    assert int(program.whole.sum()) == int(math.isfinite(lower))


def test_without_time_nothing_is_lost_but_tightness() -> None:
    graph, region, engine = boxed("conv")
    found = compute(graph, region, method="lp", options=Options(seconds=1e-9))
    assert (found.lower >= compute(graph, region).lower - 1e-9).all()
    contains(graph, region, found, steps=0)
    encoding = encode(graph, engine.boxes, exact=True)
    cost, constant = encoding.cost(graph.output, one(3, 0))
    exact = least_exactly(encoding, cost, constant, seconds=1e-9)
    assert exact.status is not Status.OPTIMAL
    assert exact.claimed <= outputs(graph, points(region, 50))[:, 0, 0].min()


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan])
def test_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(ParameterError, match="time limit"):
        Solver(program_of_halves(), seconds)


def test_highspy_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highspy", None)
    graph, region, _ = boxed("relu")
    with pytest.raises(MissingDependencyError, match=r"phalanx\[milp\]"):
        compute(graph, region, method="lp")


def test_gurobi_says_what_highs_says() -> None:
    pytest.importorskip("gurobipy")
    for name in ("relu", "max-pool", "clip"):
        graph, _, engine = boxed(name)
        encoding = encode(graph, engine.boxes, exact=True)
        cost, _ = encoding.cost(graph.output, one(3, 0))
        found, other = (
            solve(encoding.program, cost, None)
            for solve in (branching.by_gurobi, branching.by_highs)
        )
        assert found is not None
        assert found.status is other.status is Status.OPTIMAL
        assert found.claimed == pytest.approx(other.claimed, abs=1e-6)
        assert found.point is not None
        assert encoding.program.holds(found.point)


def test_where_gurobi_fails_highs_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed(Exception):
        pass

    def env(params: dict) -> None:
        raise Failed("no license")

    monkeypatch.setitem(sys.modules, "gurobipy", SimpleNamespace(Env=env, GurobiError=Failed))
    monkeypatch.setattr(branching, "find_spec", lambda name: name)
    program = program_of_halves()
    cost = np.ones(program.columns)
    found = branching.branched(program, cost, None)
    assert found.claimed == branching.by_highs(program, cost, None).claimed


def test_large_numbers_get_no_claim() -> None:
    draft = Draft()
    columns = draft.add_columns(np.zeros(2), np.full(2, 1e9), whole=True)
    draft.between(draft.forms(columns), 0.5, 1e9)
    found = least_exactly(Encoding(draft.program(), {}, 2, True, {}), np.ones(2))
    assert (found.status, found.claimed) == (Status.FAILED, -math.inf)


def test_a_box_that_is_none_is_refused() -> None:
    graph, _, engine = boxed("relu")
    middle = engine.boxes[graph.nodes[1].name]
    crossed = {**engine.boxes, graph.nodes[1].name: Box(middle.upper + 1, middle.lower)}
    with pytest.raises(DataError, match="opposite"):
        encode(graph, crossed)


@pytest.mark.parametrize("case", CURVES)
def test_a_point_is_its_own_program(case: str) -> None:
    graph, region, _ = boxed(case, 0.0)
    found = compute(graph, region, method="lp")
    value = outputs(graph, region.centre[None])[0]
    torch.testing.assert_close(found.lower, value, rtol=1e-6, atol=1e-6)


def test_splits_are_part_of_a_program_that_keeps_columns() -> None:
    """With its only ReLU off, ``y = relu(x)`` is zero, and the box of x says where."""
    unit = {"weight": torch.ones(1, 1).double(), "bias": torch.zeros(1).double()}
    net = Net(0, (1,)).add("linear", tensors=unit)
    hidden = net.last
    net.add("relu").dense(1)
    side = net.builder.add("add", [net.last, hidden])
    graph = prepare(net.builder.graph(side))
    region = box(-torch.ones(1, 1).double(), torch.ones(1, 1).double())
    engine = Engine(graph, region, Settings())
    engine.bound_all()
    relu = next(node for node in graph if node.op == "relu")
    boxes, zero = dict(engine.boxes), torch.zeros(1, 1).double()
    boxes[relu.inputs[0]] = Box(boxes[relu.inputs[0]].lower, zero)
    boxes[relu.name] = Box(zero, zero)
    largest = {}
    for kept in (False, True):
        encoding = encode(graph, boxes, kept=kept)
        cost, _ = encoding.cost(relu.inputs[0], np.array([-1.0]))
        largest[kept] = -Solver(encoding.program).least(cost).bound
    assert abs(largest[True]) < 1e-9
    assert largest[False] > 0.9


def test_an_encoding_that_cuts_runs_off_is_caught() -> None:
    """The test of these tests: a ReLU that is written one percent too low."""
    graph, region = small(0, 6), around(small(0, 6), 0.7)
    real = encodings.get("curve")

    def low(node, sheet: Sheet) -> Forms:
        found = real(node, sheet)
        return found.times(np.full(len(found), 0.99))

    contains(graph, region, compute(graph, region, method="lp"))
    encodings.register("relu")(low)
    try:
        with pytest.raises(AssertionError):
            contains(graph, region, compute(graph, region, method="lp"))
    finally:
        encodings.unregister("relu")
