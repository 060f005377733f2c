"""Published logs: every radius reproduced from its count, every aggregated figure exact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phalanx.runs.arithmetic import lower_limit, lower_limits, radius_of
from phalanx.runs.imports import import_log
from phalanx.runs.query import summarise
from phalanx.runs.recheck import Outcome, recheck
from phalanx.runs.tsv import read_log

pytestmark = pytest.mark.shared
LOGS = (
    "cohen_cifar10_r110_0.25",
    "cohen_cifar10_r110_1.00",
    "cohen_cifar10_r110_trained1.00_sigma0.50",
    "cohen_imagenet_r50_0.50",
    "consistency_mnist_gauss_0.50",
    "consistency_mnist_cons_lbd10_0.25",
    "consistency_cifar10_r110_lbd20_0.25",
)


@pytest.fixture
def golden(shared: Path) -> Path:
    return shared / "golden"


@pytest.mark.parametrize("name", LOGS)
def test_every_published_radius_and_figure(golden: Path, name: str) -> None:
    table = json.loads((golden / "np_tables.json").read_text())[name]
    path = golden / f"np_{name}.csv"
    sigma, n, alpha = table["sigma"], table["N"], table["alpha_effective"]
    rows = [row for row in read_log(path) if row.n_a is not None and row.n_a_max is not None]
    limits = lower_limits([(k, n) for row in rows for k in (row.n_a, row.n_a_max)], alpha)
    for row in rows:
        for count in (row.n_a, row.n_a_max):
            radius = radius_of(limits[count, n], sigma)
            assert float(f"{radius:.3}") == row.radius, (row, count)
    run = import_log(path, None, sigma, n, alpha, n0=table["n0"])
    summary = summarise(run, radii=[float(key) for key in table["certified_accuracy"]])
    assert summary.certified_accuracy == table["certified_accuracy"]
    assert summary.average_certified_radius == pytest.approx(table["ACR"], abs=1e-12)
    assert summary.abstained == round(table["abstain"] * table["rows"])
    assert summary.images == table["rows"]
    report = recheck(run)
    assert report.ok
    assert report.count(Outcome.RECHECKED) == len(rows)
    assert report.count(Outcome.NOT_RECHECKABLE) == summary.abstained


def test_the_documented_alpha_is_contradicted_where_it_was_not_used(golden: Path) -> None:
    path = golden / "np_cohen_cifar10_r110_1.00.csv"
    assert not recheck(import_log(path, None, 1.0, 100_000, 0.001)).ok


def test_unit_cases(golden: Path) -> None:
    for case in json.loads((golden / "np_unit_cases.json").read_text()):
        p_lower = lower_limit(case["nA"], case["N"], case["alpha"])
        assert p_lower == pytest.approx(case["p_lower"], rel=1e-13)
        assert radius_of(p_lower, case["sigma"]) == pytest.approx(case["radius"], rel=1e-11)
