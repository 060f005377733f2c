"""What a run of bounds says beside its verdicts: by which methods, and what to try next."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from phalanx.bounds.problem import methods
from phalanx.data.arrays import from_arrays
from phalanx.evaluation.bounding import BoundSweep, open_bound_run, request_bounds
from phalanx.evaluation.proving import LADDER
from phalanx.models.declaration import Declaration, wrap
from phalanx.models.model import Model
from phalanx.reporting.tables import summary_table
from phalanx.runs import bounded
from phalanx.runs.bounded import bounded_note, explain_bounded, next_method
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict
from phalanx.verify.engine import engines
from phalanx.verify.network import LINEAR

HIGHS = pytest.mark.skipif(not find_spec("highspy"), reason="needs highspy")
SAID = Declaration((0.0, 1.0), classes=2, normalised_inside=True, shape=(1, 1, 2))
MIDDLE, CORNER, NEAR = [0.5, 0.5], [0.0, 0.0], [0.5, 0.62]


def distance() -> Model:
    """Class 1 where ``|x - 1/2| + |y - 1/2| > 1/4``; the middle is safe up to 1/8 in l_inf."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    net.eval().requires_grad_(False)
    signs = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    net[1].weight.copy_(signs)
    net[1].bias.copy_(-signs.sum(1) / 2)
    net[3].weight.copy_(torch.tensor([[0.0] * 4, [1.0] * 4]))
    net[3].bias.copy_(torch.tensor([0.25, 0.0]))
    return wrap(net, SAID)


def run(*points: list[float], models: int = 1, eps: float = 0.13, **more: object) -> RunStore:
    data = from_arrays(torch.tensor(points).reshape(-1, 1, 1, 2))
    options = {"falsify": False, "method": "auto", **more}
    request = request_bounds([distance()] * models, data, eps=eps, **options)
    store = open_bound_run(request, None, command="test")
    BoundSweep(request, store).run()
    return store


def advice(store: RunStore) -> str:
    (record,) = store.certificates()
    assert record.verdict is Verdict.UNKNOWN
    tried, said = explain_bounded(store, record.classifier, record.image)[-2:]
    assert tried == f"tried: {', '.join(record.details['tried'])}"
    return said


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "--method alpha-crown-full or a smaller radius may decide it"),
        ({"method": "ibp"}, "--method alpha-crown or a smaller radius may decide it"),
        ({"options": {"layers": "full"}}, "--method kpoly or a smaller radius may decide it"),
        (
            {"method": "kpoly"},
            "--method branch-and-bound (complete, real arithmetic) or a smaller radius may decide"
            " it",
        ),
        (
            {"method": "kpoly", "norm": "l2", "eps": 0.2},
            "no tighter method is left here: a smaller radius may decide it",
        ),
        (
            {"method": "kpoly", "models": 2, "reducer": "vote"},
            "no tighter method is left here: a smaller radius may decide it",
        ),
        (
            {"method": "branch-and-bound", "options": {"seconds": 1e-9}},
            "more time (--set seconds=...), --method milp (complete, real arithmetic) or a smaller"
            " radius may decide it",
        ),
    ],
)
@HIGHS
def test_what_is_advised_was_not_tried(more: dict, says: str) -> None:
    assert advice(run(MIDDLE, **more)) == says


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("programs", [True, False])
def test_advice_that_is_followed_comes_to_an_end(complete: bool, programs: bool) -> None:
    tried = list(LADDER)
    while (name := next_method(tried, complete=complete, programs=programs)) is not None:
        assert name not in tried
        assert programs or name not in ("kpoly", "milp")
        assert complete or name in methods.names()
        tried.append(name)
    assert "alpha-crown-full" in tried
    assert ("kpoly" in tried) == programs
    assert ("branch-and-bound" in tried) == complete
    assert ("milp" in tried) == (complete and programs)


@pytest.mark.parametrize("method", [*methods.names(), *engines.names()])
def test_behind_every_method_stands_another(method: str) -> None:
    found = next_method([method], complete=True, programs=True)
    assert found is not None
    assert found != method
    assert method not in engines.names() or found in engines.names()


def test_the_names_are_those_of_the_registries() -> None:
    assert set(bounded.COMPLETE) == set(engines.names())
    assert {name for place in bounded.BOUNDING for name in place} <= set(methods.names())
    assert {*bounded.ENGINES, *bounded.PROGRAMS} <= {*methods.names(), *engines.names()}
    assert bounded.JOINED == LINEAR


def test_images_are_counted_by_the_method_that_decided_them() -> None:
    points = [CORNER, MIDDLE, NEAR, [1.0, 1.0], [0.5, 0.45]]
    store = run(*points, eps=0.12, falsify=True)
    records = store.certificates()
    proven = [r.details["method"] for r in records if r.verdict is Verdict.VERIFIED]
    broken = sum(record.verdict is Verdict.FALSIFIED for record in records)
    assert broken
    assert len(set(proven)) > 1
    note = bounded_note(store)
    cheapest_first = [name for name in LADDER if name in proven]
    said = ", ".join(f"{Counter(proven)[name]} by {name}" for name in cheapest_first)
    assert f"{len(proven)} verified ({said})" in note
    assert f"{broken} falsified (by pgd)" in note
    assert "\n" not in note
    assert note in summary_table(store).text().replace("\n", " ")


def test_one_method_is_not_counted_apart() -> None:
    assert bounded_note(run(CORNER, method="crown")).startswith("Deterministic bounds: 1 verified;")
