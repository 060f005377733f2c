"""Double sampling on the published per-sample logs: agreement, mean radii, and time.

Every row of the four logs is certified from its published intervals. A row with reference columns
agrees if it is certified at its published radius where that is above Neyman-Pearson's, not at
the next multiple of .05 where the reference is below one half, and within 1e-4 of the reference
radius. Rows that pool both laws are plain Neyman-Pearson on the pooled bound.

    python benchmarks/dsrs_golden.py --golden FOLDER
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from phalanx.smoothing.double_sampling.boxes import Boxes, boxes_from_counts
from phalanx.smoothing.double_sampling.budget import SecondRule, plan_budget
from phalanx.smoothing.double_sampling.laws import (
    GeneralisedGaussian,
    SmallerVariance,
    Truncation,
    truncation_mass,
)
from phalanx.smoothing.double_sampling.radius import certified_radii, plain_radii

RESULTS = Path(__file__).parent / "results"
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
STEP = 0.05
N, SIDE = 50_000, 2.5e-4
"""Samples of each law of the logs, and what each of their four bounds may be wrong with."""
PILOTS = (100, 1_000)


def read(file: Path) -> dict[str, Floats]:
    """The log's columns; NaN where a cell is empty."""
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    return {
        name: np.array([_number(row[name]) for row in rows], dtype=np.float64) for name in rows[0]
    }


def _number(cell: str) -> float:
    return float(cell.removeprefix("np.float64(").removesuffix(")") or "nan")


def agreement(log: dict[str, Floats], radii: Floats) -> tuple[Bools, Bools]:
    """Which rows have a reference, and which of all rows contradict none."""
    published, reference = log["dsrs_radius_repo"], log["dsrs_radius_ref"]
    improved = ~np.isnan(log["R_at_repo"]) & (published > log["np_radius_repo"])
    further = (np.floor(published / STEP + 1e-9) + 1) * STEP
    fine = ~improved | (radii >= published)
    fine &= ~(log["R_at_next"] < 0.5) | (radii < further)
    fine &= np.isnan(reference) | (np.abs(radii - reference) < 1e-4)
    columns = ("R_at_repo", "R_at_next", "dsrs_radius_ref")
    empty = np.stack([np.isnan(log[name]) for name in columns]).all(axis=0)
    return np.logical_not(empty), fine


def compare(file: Path, table: dict[str, Any]) -> dict[str, Any]:
    """Certify one log, and spend its budget by the rule."""
    log = read(file)
    law = GeneralisedGaussian(table["d"], table["k"], table["sigma_P"])
    pooled = log["pooled"] == 1
    box = np.stack([log[name] for name in ("pL", "pU", "qL", "qU")])
    radii = np.zeros(len(pooled))
    began, cpu = time.perf_counter(), time.process_time()
    second: Any
    if table["Q"]["kind"] == "variance":
        second = SmallerVariance(table["Q"]["sigma_Q"])
    else:
        second = [Truncation(float(mass)) for mass in log["q_trunc_mass"][~pooled]]
    found = certified_radii(law, second, Boxes(*box[:, ~pooled]))
    radii[~pooled] = found.radius
    radii[pooled] = plain_radii(law, box[2, pooled]).radius
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    known, fine = agreement(log, radii)
    published = log["dsrs_radius_repo"]
    row = {
        "file": file.name,
        "rows": len(radii),
        "with_reference": int(known.sum()),
        "agreeing": int((known & fine).sum()),
        "disagreeing": int((known & ~fine).sum()),
        "below_published_without_reference": int((~known & (radii < published - 1e-4)).sum()),
        "most_below_published_without_reference": float((published - radii)[~known].max()),
        "mean_radius": float(radii.mean()),
        "mean_published": float(published.mean()),
        "largest_difference_from_reference": float(
            np.nanmax(np.abs(radii - log["dsrs_radius_ref"]))
        ),
        "largest_quadrature_error": float(np.nanmax(found.error)),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "seconds_a_row": seconds / len(radii),
    }
    row["mean_of_lower_bounds_only"] = _lower_only(log, law, second, radii)
    return row | {"budget": _budget(log, law, table, radii)}


def _lower_only(
    log: dict[str, Floats], law: GeneralisedGaussian, second: Any, two_sided: Floats
) -> dict[str, float]:
    """Mean radii of the rows with two laws, by the counts behind their published intervals.

    From four ends at alpha / 4 each, and from two lower ones at alpha / 2, as `certify` does.
    """
    own = log["pooled"] == 0
    counts = np.arange(N + 1)
    published = np.where(counts > 0, betaincinv(np.maximum(counts, 1), N - counts + 1, SIDE), 0.0)
    hits = [np.searchsorted(published, log[name][own] - 1e-9) for name in ("pL", "qL")]
    boxes = boxes_from_counts(hits[0], N, hits[1], N, 4 * SIDE, two_sided=False)
    lower = certified_radii(law, second, boxes).radius
    return {"two_sided": float(two_sided[own].mean()), "lower": float(lower.mean())}


def _budget(
    log: dict[str, Floats], law: GeneralisedGaussian, table: dict[str, Any], double: Floats
) -> dict[str, Any]:
    """Mean radii at equal totals: never, always, by the rule, and by hindsight."""
    own = log["pooled"] == 0
    plain = plain_radii(law, log["np100k_pL"]).radius
    rule: SecondRule = Truncation(0.5)
    if table["Q"]["kind"] == "variance":
        rule = SmallerVariance(table["Q"]["sigma_Q"])
    elif table["Q"]["mass"] == "x+":
        rule = _published_truncation
    budget = plan_budget(law, rule, 100_000, 0.001, shares=(0.5,))
    result: dict[str, Any] = {
        "rows": int(own.sum()),
        "neyman_pearson": float(plain[own].mean()),
        "double_sampling": float(double[own].mean()),
        "hindsight": float(np.maximum(plain, double)[own].mean()),
    }
    rng = np.random.default_rng(0)
    for pilot in PILOTS:
        hits = rng.binomial(pilot, np.clip((log["pL"] + log["pU"]) / 2, 0, 1))
        chosen = np.array([budget.choose(int(count), pilot).is_plain for count in hits])
        result[f"rule_after_{pilot}"] = float(np.where(chosen, plain, double)[own].mean())
    return result


def _published_truncation(p: float) -> Truncation:
    return Truncation(truncation_mass(p))


def main() -> None:
    """Certify, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", type=Path, required=True, help="folder of published logs")
    options = parser.parse_args()
    tables = json.loads((options.golden / "dsrs_tables.json").read_text())
    rows = []
    for file in sorted(options.golden.glob("dsrs_*.csv")):
        name = file.stem.removeprefix("dsrs_")
        table = next(value for key, value in tables.items() if name.startswith(key))
        rows.append(compare(file, table))
        row = rows[-1]
        print(
            f"{name:38} rows {row['rows']:,}  agree {row['agreeing']}/{row['with_reference']}"
            f"  disagree {row['disagreeing']}  mean {row['mean_radius']:.4f}"
            f" (published {row['mean_published']:.4f})"
            f"  |r - ref| <= {row['largest_difference_from_reference']:.1e}"
            f"  {row['seconds']:.1f} s, {1000 * row['seconds_a_row']:.1f} ms a row"
        )
        print(f"{'':38} " + "  ".join(f"{k} {v:.4g}" for k, v in row["budget"].items()))
        sides = row["mean_of_lower_bounds_only"]
        print(f"{'':38} two-sided {sides['two_sided']:.4f}  lower ends {sides['lower']:.4f}")
    result = {"command": "python benchmarks/dsrs_golden.py --golden FOLDER", "rows": rows}
    (RESULTS / "dsrs_golden.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
