"""Double sampling on the published per-sample logs; and which law the budget goes to."""

import csv
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import betaincinv

from phalanx.errors import ParameterError
from phalanx.smoothing.double_sampling.boxes import Boxes
from phalanx.smoothing.double_sampling.budget import plan_budget
from phalanx.smoothing.double_sampling.dual import evaluate
from phalanx.smoothing.double_sampling.laws import (
    GeneralisedGaussian,
    SmallerVariance,
    Truncation,
    truncation_mass,
)
from phalanx.smoothing.double_sampling.pairs import pair_of
from phalanx.smoothing.double_sampling.radius import certified_radii, plain_radii
from phalanx.smoothing.double_sampling.search import State, improve, propose, start

Floats = NDArray[np.float64]
NAMES = (
    "cohen-mnist-380-0.50_var_0.4",
    "consistency-cifar-1530-0.50_var_0.4",
    "cohen-imagenet-75260-0.50_th_x+",
    "cohen-cifar-1530-0.50_th_0.5",
)


@dataclass(frozen=True)
class Log:
    """Columns of one published log; NaN where a cell is empty."""

    law: GeneralisedGaussian
    kind: dict[str, str]
    columns: dict[str, Floats]

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]

    def boxes(self) -> Boxes:
        return Boxes(self["pL"], self["pU"], self["qL"], self["qU"])

    def second(self):
        if self.kind["kind"] == "variance":
            return SmallerVariance(self.kind["sigma_Q"])
        return [Truncation(float(mass)) for mass in self["q_trunc_mass"]]

    def radii(self) -> Floats:
        return certified_radii(self.law, self.second(), self.boxes()).radius


@cache
def whole(folder: Path, name: str) -> tuple[Log, Floats]:
    """A log and its radii, computed once for the slow tests."""
    log = read(folder, name)
    return log, log.radii()


def read(folder: Path, name: str, every: int = 1) -> Log:
    """The rows that have two laws; of those with a reference every ``every``-th."""
    tables = json.loads((folder / "golden" / "dsrs_tables.json").read_text())
    table = next(value for key, value in tables.items() if name.startswith(key))
    with (folder / "golden" / f"dsrs_{name}.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["pooled"] == "0"]
    if every > 1:
        rows = [row for row in rows if row["np_radius_ref"]][::every]
    columns = {
        column: np.array([_number(row[column]) for row in rows], dtype=np.float64)
        for column in rows[0]
    }
    law = GeneralisedGaussian(table["d"], table["k"], table["sigma_P"])
    return Log(law, table["Q"], columns)


def _number(cell: str) -> float:
    return float(cell.removeprefix("np.float64(").removesuffix(")") or "nan")


def agrees(log: Log, radii: Floats) -> Floats:
    """Of the rows with a reference: certified where published, not at the next multiple of .05."""
    published, plain = log["dsrs_radius_repo"], log["np_radius_repo"]
    further = (np.floor(published / 0.05 + 1e-9) + 1) * 0.05
    known = ~np.isnan(log["R_at_repo"])
    ok = np.where(known & (published > plain), radii >= published, True)
    ok &= np.where(log["R_at_next"] < 0.5, radii < further, True)
    reference = log["dsrs_radius_ref"]
    ok &= np.isnan(reference) | (np.abs(radii - reference) < 1e-4)
    return ok


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_some_published_rows(shared, name):
    log = read(shared, name, every=6)
    assert agrees(log, log.radii()).all()


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_published_row_and_the_mean(shared, name):
    log, radii = whole(shared, name)
    assert agrees(log, radii).all()
    assert radii.mean() >= log["dsrs_radius_repo"].mean()


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_the_optimal_dual_is_the_reference_at_published_distances(shared, name):
    """R at the published distance, from an independent implementation, to its accuracy."""
    log = read(shared, name, every=6)
    box = log.boxes().stacked()
    pair = pair_of(log.law, log.second(), len(log["pL"]))
    state = propose(pair.plain(), box, start(pair, box[0]))
    plain = log["np_radius_ref"]
    assert np.allclose(state.c * log.law.unit, plain, rtol=0, atol=2e-6)
    near = State(log["dsrs_radius_repo"] / log.law.unit, state.l1, state.l2)
    near, value, point = improve(pair, box, near)
    known = ~np.isnan(log["R_at_repo"])
    assert np.allclose(value[known], log["R_at_repo"][known], rtol=0, atol=1e-5)
    # The slope that the search uses is that of the dual at fixed multipliers.
    later = evaluate(pair, near.c * (1 + 1e-6), near.l1, near.l2)
    slope = (later.surplus - point.surplus) / (near.c * 1e-6)
    assert np.allclose(slope, point.slope, rtol=1e-3)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pilot", [100, 1000])
def test_the_rule_is_as_good_as_the_better_of_always_and_never(shared, name, pilot):
    """Equal totals: 2 x 50,000 for double sampling, 100,000 for Neyman-Pearson."""
    log, double = whole(shared, name)
    plain = plain_radii(log.law, log["np100k_pL"]).radius
    truncated = log.kind["kind"] != "variance"
    second = log.second() if not truncated else Truncation(0.5)
    if log.kind.get("mass") == "x+":

        def second(p):
            return Truncation(truncation_mass(p))

    budget = plan_budget(log.law, second, 100_000, 0.001, shares=(0.5,))
    hits = np.random.default_rng(0).binomial(pilot, (log["pL"] + log["pU"]) / 2)
    chosen = [budget.choose(int(count), pilot).is_plain for count in hits]
    mean = np.where(chosen, plain, double).mean()
    assert mean >= max(double.mean(), plain.mean()) - 0.001


def test_saturated_inputs_go_to_neyman_pearson_and_others_do_not():
    law = GeneralisedGaussian(784, 380, 0.5)
    budget = plan_budget(law, SmallerVariance(0.4), 100_000, 0.001)
    saturated = budget.choose(100_000, 100_000)
    assert saturated.is_plain
    assert (saturated.n_p, saturated.n_q) == (100_000, 0)
    middling = budget.choose(980, 1000)
    assert not middling.is_plain
    assert middling.n_p + middling.n_q == 100_000
    assert middling.double > middling.plain
    # With fewer samples everything is saturated sooner.
    few = plan_budget(law, SmallerVariance(0.4), 1000, 0.001)
    assert few.choose(990, 1000).is_plain


def test_the_prediction_is_what_expected_counts_certify():
    law = GeneralisedGaussian(784, 380, 0.5)
    budget = plan_budget(law, SmallerVariance(0.4), 100_000, 0.001, shares=(0.5, 0.8))
    p = budget.p[::8]
    lower = betaincinv(100_000 * p, 100_000 * (1 - p) + 1, 0.001)
    assert np.allclose(budget.plain[::8], plain_radii(law, lower).radius, rtol=0, atol=1e-4)
    assert np.all(np.diff(budget.plain) >= 0)


@pytest.mark.parametrize(
    "change",
    [
        {"n": 50},
        {"alpha": 0.0},
        {"shares": ()},
        {"shares": (1.0,)},
        {"misses": 0.0},
        {"misses": float("nan")},
    ],
)
def test_a_budget_that_means_nothing_is_refused(change):
    options = {"n": 1000, "alpha": 0.001, "shares": (0.5,), "misses": 0.7, **change}
    law = GeneralisedGaussian(784, 380, 0.5)
    with pytest.raises(ParameterError):
        plan_budget(law, Truncation(0.5), options.pop("n"), options.pop("alpha"), **options)


def test_a_pilot_that_means_nothing_is_refused():
    law = GeneralisedGaussian(784, 380, 0.5)
    budget = plan_budget(law, Truncation(0.5), 1000, 0.001, shares=(0.5,))
    for hits, trials in ((-1, 10), (11, 10), (0, 0)):
        with pytest.raises(ParameterError):
            budget.choose(hits, trials)
