"""Where it is only asked whether all rows are above zero, less is done and as much is decided."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bounds_checks import outputs
from bounds_nets import Net, around, points
from torch import Tensor

from phalanx.bounds.front import Apart, compute
from phalanx.bounds.options import Options
from phalanx.bounds.problem import methods
from phalanx.bounds.programs import relax
from phalanx.bounds.programs import solver as solving
from phalanx.bounds.programs.program import Draft
from phalanx.bounds.programs.solver import Solver, Status
from phalanx.bounds.region import Region, box
from phalanx.graph.ir import Graph

LEAVING = ("alpha-crown", "alpha-crown-full", "fast-c2v", "kpoly", "lp")
"""Methods that are never below CROWN, and leave rows as CROWN has them."""
ROWS = torch.eye(3, dtype=torch.float64)


def deep(seed: int, lowered: Tensor | float = 0.0) -> tuple[Graph, Region]:
    """Two layers of ReLUs around one point, whose outputs are lowered."""
    net = Net(seed, (4,))
    for _ in range(2):
        net.dense(5, 1.3).add("relu")
    tensors = {"weight": net.draw(3, 5), "bias": net.draw(3) - lowered}
    graph = net.add("linear", tensors=tensors).builder.graph(net.last)
    return graph, around(graph, 0.4, seed, batch=1)


def near(method: str, seed: int, share: float) -> tuple[Graph, Region]:
    """Outputs whose bounds lie around zero: at 0 CROWN decides, up to 1 the method alone."""
    graph, region = deep(seed)
    low = compute(graph, region, method="crown", rows=ROWS).lower[0]
    high = compute(graph, region, method=method, rows=ROWS).lower[0]
    return deep(seed, low + share * (high - low) - 1e-3)


@pytest.mark.parametrize("method", LEAVING)
def test_as_much_is_decided(method: str) -> None:
    counts = {True: 0, False: 0}
    for seed in range(12):
        for share in (-0.2, 0.4, 0.9, 1.5):
            graph, region = near(method, seed, share)
            full, decided = (
                compute(graph, region, method=method, rows=ROWS, decide=decide)
                for decide in (False, True)
            )
            holds = bool((full.lower > 0).all())
            assert bool((decided.lower > 0).all()) is holds
            assert (decided.lower <= outputs(graph, points(region, 300)).amin(0) + 1e-9).all()
            assert not full.trace.decided
            counts[holds] += 1
    assert min(counts.values()) > 5


def test_members_apart_are_bounded_in_full() -> None:
    """Whether a member's row is above zero decides nothing about the ensemble."""
    members = [deep(seed)[0] for seed in (3, 4)]
    apart = Apart(members, "vote", {})
    region, given = deep(3)[1], {"method": "lp", "rows": ROWS}
    found = [compute(apart, region, decide=decide, **given) for decide in (False, True)]
    assert torch.equal(found[0].lower, found[1].lower)
    assert not any(trace.decided for trace in found[1].traces)


@pytest.mark.parametrize(("share", "most"), [(-0.5, 0), (2.0, 1)])
def test_programs_are_solved_for_what_is_open_alone(
    share: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For none where CROWN decides, for the lowest where no row holds; for every row otherwise."""
    graph, region = near("lp", 3, share)
    least, write = Solver.least, relax.encode
    solved, written = [], []

    def counted(self: Solver, *given: object) -> object:
        solved.append(given)
        return least(self, *given)

    def noted(*given: object, **more: object) -> object:
        written.append(given)
        return write(*given, **more)

    monkeypatch.setattr(Solver, "least", counted)
    monkeypatch.setattr(relax, "encode", noted)
    compute(graph, region, method="lp", rows=ROWS, decide=True)
    assert len(solved) == len(written) == most
    compute(graph, region, method="lp", rows=ROWS)
    assert len(solved) == most + 3


@pytest.mark.parametrize("method", ["lp", "kpoly", "fast-c2v"])
def test_the_row_that_fails_is_the_lowest_and_is_named(method: str) -> None:
    """The others keep CROWN's bounds, which say nothing of the method."""
    graph, region = deep(3, torch.tensor([60.0, 100.0, 80.0]))
    plain = compute(graph, region, method="crown", rows=ROWS).lower[0]
    full = compute(graph, region, method=method, rows=ROWS)
    found = compute(graph, region, method=method, rows=ROWS, decide=True)
    assert (full.trace.decided, full.trace.failed) == (False, {})
    assert (found.trace.decided, found.trace.failed) == (True, {0: 1})
    assert torch.allclose(found.lower[0, 1], full.lower[0, 1], rtol=0, atol=1e-6)
    assert torch.allclose(found.lower[0, [0, 2]], plain[[0, 2]], rtol=0, atol=1e-9)
    assert bool((full.lower[0, [0, 2]] > plain[[0, 2]] + 1e-3).any())


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("method", ["lp", "kpoly", "alpha-crown-full"])
def test_as_much_is_decided_in_balls_and_with_cuts(method: str, norm: str) -> None:
    """A row that is asked first has none of the cuts that were added for others."""
    options, counts = Options(cuts=2 if norm == "l1" else 0), {True: 0, False: 0}
    for seed in range(6):
        graph, boxes = deep(seed)
        region = Region(boxes.lower, boxes.upper, boxes.centre, norm, 0.6)
        given = {"method": method, "rows": ROWS, "options": options}
        low = compute(graph, region, method="crown", rows=ROWS).lower[0]
        gap = compute(graph, region, **given).lower[0] - low
        for share in (0.5, 0.97, 1.2):
            near_zero, _ = deep(seed, low + share * gap - 1e-4)
            full, decided = (
                bool((compute(near_zero, region, decide=decide, **given).lower > 0).all())
                for decide in (False, True)
            )
            assert decided or not full
            counts[full] += 1
    assert min(counts.values()) > 2


def test_elements_of_a_batch_are_decided_apart() -> None:
    """One by CROWN, one not at all, one by the method: each as it is alone, traces and all."""
    graph, region = near("alpha-crown-full", 3, 0.5)
    centre, half = region.centre, (region.upper - region.lower) / 2
    sizes = torch.tensor([0.3, 3.0, 1.0], dtype=torch.float64)[:, None]
    batch = box(centre - sizes * half, centre + sizes * half)
    for method in LEAVING:
        found = compute(graph, batch, method=method, rows=ROWS, decide=True)
        for at in range(3):
            alone = compute(graph, batch.element(at), method=method, rows=ROWS, decide=True)
            assert bool((found.lower[at] > 0).all()) is bool((alone.lower > 0).all())
            for name, side in found.trace.boxes.items():
                mine = alone.trace.boxes[name]
                assert torch.allclose(side.lower[at], mine.lower[0], rtol=0, atol=1e-9)


def test_an_offset_is_not_decided_about() -> None:
    """Rows are compared with zero before an offset is added: with one, nothing is left."""
    graph, region = near("lp", 3, -0.5)
    given = {"method": "lp", "rows": ROWS, "offset": torch.zeros(3)}
    decided = compute(graph, region, decide=True, **given)
    assert decided.lower.tolist() == compute(graph, region, **given).lower.tolist()


def test_methods_name_what_they_are_above() -> None:
    assert [methods.above(name) for name in LEAVING] == ["crown", "crown", "crown", "lp", "crown"]
    assert methods.above("k-relu") == "lp"
    assert methods.above("crown") is None


def test_large_programs_have_the_same_minima(monkeypatch: pytest.MonkeyPatch) -> None:
    """First by interior points, then by the simplex method from the corner where these ended."""
    graph, region = deep(5)
    options = Options(cuts=2)
    found, ways, least = [], [], Solver.least

    def noted(self: Solver, *given: object) -> object:
        ways.append(self._highs.getOptionValue("solver")[1])
        return least(self, *given)

    monkeypatch.setattr(Solver, "least", noted)
    for large, begins in ((1, "ipm"), (10**6, "simplex")):
        monkeypatch.setattr(solving, "LARGE", large)
        ways.clear()
        compute(graph, region, method="lp", rows=ROWS)
        assert ways == [begins, "simplex", "simplex"]
        found.append(compute(graph, region, method="kpoly", rows=ROWS, options=options).lower)
    assert torch.allclose(found[0], found[1], rtol=0, atol=1e-7)


def test_a_large_program_is_empty_where_multipliers_show_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(solving, "LARGE", 1)
    draft = Draft()
    x = draft.forms(draft.add_columns(np.zeros(2), np.ones(2)))
    first, second = (x.take(np.array([at])) for at in range(2))
    draft.between(first.plus(second), 1.5, np.inf)
    draft.between(first.minus(second), 0.8, np.inf)
    found = Solver(draft.program()).least(np.ones(2))
    assert (found.status, found.empty) == (Status.INFEASIBLE, True)
