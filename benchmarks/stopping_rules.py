"""What each stopping rule costs and loses, by draws from known class probabilities.

Every image of a published log (or of a run) has votes, and their share is taken as its true
probability; each repetition draws its votes anew by the binomial law and asks the package's own
rules when they would have stopped and what they would have certified, one radius at a time.

    python benchmarks/stopping_rules.py --golden FOLDER [--run RUN ...] [--repetitions 200]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from phalanx.evaluation.config import CertifyConfig
from phalanx.runs.imports import import_log
from phalanx.runs.store import RunStore
from phalanx.smoothing.confidence.truncated_mixture import log_wealth
from phalanx.smoothing.stopping._looks import Path as Votes
from phalanx.smoothing.stopping._looks import anytime_alpha, growing
from phalanx.smoothing.stopping.anytime import Anytime

RESULTS = Path(__file__).parent / "results"
RADII = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
STAGES, LAST = (1_000, 10_000), 125_000
Floats = NDArray[np.float64]
Outcome = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Samples and whether the radius is certified, ``(repetitions, images)`` each."""


@dataclass(frozen=True)
class Source:
    """Images with known probabilities of a known noise level: p_A float64 ``(images,)``."""

    name: str
    sigma: float
    p: Floats
    correct: NDArray[np.bool_]


def sources(golden: Path | None, runs: list[Path], most: int) -> Iterator[Source]:
    """Every log in the folder, every run; at most ``most`` images of each, evenly spread."""
    if golden is not None:
        tables = json.loads((golden / "np_tables.json").read_text())
        for file in sorted(golden.glob("np_*.csv")):
            sigma = float(tables[file.stem.removeprefix("np_")]["sigma"])
            store = import_log(file, None, sigma=sigma, n=100_000, alpha=0.001)
            yield _source(file.stem, store, sigma, most)
    for folder in runs:
        with RunStore.open(folder) as store:
            yield _source(folder.name, store, float(store.manifest.config["sigma"]), most)


def _source(name: str, store: RunStore, sigma: float, most: int) -> Source:
    rows = store.certificates(store.manifest.classifiers[0].name)
    rows = rows[:: max(1, len(rows) // most)]
    # Without votes (an abstention of a log) the probability is below, and taken as, one half.
    p = [0.5 if row.n_a is None or not row.n else row.n_a / row.n for row in rows]
    return Source(name, sigma, np.array(p), np.array([bool(row.correct) for row in rows]))


def fixed(config: CertifyConfig, p: Floats, rng: np.random.Generator, shape: Any) -> Outcome:
    """N samples, always."""
    hits = rng.binomial(config.n, p, shape)
    certified = _limit(hits, config.n, config.alpha) >= config.setting().targets[0]
    return np.full(shape, config.n0 + config.n), certified


def staged(config: CertifyConfig, p: Floats, rng: np.random.Generator, shape: Any) -> Outcome:
    """Fresh stages, as published."""
    target, sizes = config.setting().targets[0], (*STAGES, LAST)
    samples, certified = np.zeros(shape, np.int64), np.zeros(shape, bool)
    going = np.ones(shape, bool)
    for stage, size in enumerate(sizes):
        hits = rng.binomial(size, p, shape)
        samples += going * (config.n0 + size)
        shown = _limit(hits, size, config.alpha / len(sizes)) >= target
        beta = config.beta / (len(sizes) - 1)
        hopeless = 1 - _limit(size - hits, size, beta) < target
        certified |= going & shown
        going &= ~shown & ~(hopeless & (stage < len(sizes) - 1))
    return samples, certified


def anytime(config: CertifyConfig, p: Floats, rng: np.random.Generator, shape: Any) -> Outcome:
    """The package's anytime rule, look by look."""
    setting = config.setting()
    rows = np.array([chunk.rows for chunk in growing("estimation", config.n, config.chunk)])
    hits = rng.binomial(rows, p[:, None], (*shape, len(rows))).cumsum(-1)
    seen = np.broadcast_to(rows.cumsum(), hits.shape)
    decided = Anytime(setting).decided(Votes(seen, hits, np.zeros_like(hits)))
    ends = np.where(decided.any(-1), decided.argmax(-1), len(rows) - 1)
    shown = log_wealth(hits, seen, setting.targets[0]) >= -np.log(anytime_alpha(setting))
    by_then = np.arange(len(rows)) <= ends[..., None]
    reserved = setting.alpha - anytime_alpha(setting)
    last = _limit(hits[..., -1], config.n, reserved) >= setting.targets[0]
    certified = (shown & by_then).any(-1) | (last & (ends == len(rows) - 1))
    return config.n0 + np.take_along_axis(seen, ends[..., None], -1)[..., 0], certified


RULES = {"fixed": fixed, "staged": staged, "anytime": anytime}


def _limit(hits: NDArray[np.int64], n: int, alpha: float) -> Floats:
    """Clopper-Pearson from below."""
    with np.errstate(invalid="ignore"):
        found = betaincinv(np.maximum(hits, 1), n - hits + 1, alpha)
    return np.where(hits > 0, found, 0.0)


def compare(source: Source, radius: float, repetitions: int, base: CertifyConfig) -> dict[str, Any]:
    """One radius: each rule's samples an image and certified accuracy, over repetitions."""
    config = replace(base, sigma=source.sigma, radii=(radius,))
    # The same p need the same draws only once: images are grouped by their probability.
    values, where, counts = np.unique(source.p, return_inverse=True, return_counts=True)
    right = np.bincount(where, weights=source.correct) / counts
    rng = np.random.default_rng(0)
    row: dict[str, Any] = {"source": source.name, "sigma": source.sigma, "radius": radius}
    for name, rule in RULES.items():
        samples, certified = rule(config, values, rng, (repetitions, len(values)))
        row[name] = {
            "samples": float(np.average(samples, axis=1, weights=counts).mean()),
            "certified": float(np.average(certified * right, axis=1, weights=counts).mean()),
        }
    row["of_cap"] = radius / replace(config, stop="fixed").largest_radius()
    row["anytime_over_staged"] = row["anytime"]["samples"] / row["staged"]["samples"]
    row["points_lost"] = 100 * (row["fixed"]["certified"] - row["anytime"]["certified"])
    return row


def main() -> None:
    """Simulate, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", type=Path, help="folder of published logs")
    parser.add_argument("--run", type=Path, action="append", default=[], help="a run folder")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--images", type=int, default=500, help="of each source, at most")
    parser.add_argument("--reserve", type=float, default=CertifyConfig.reserve)
    parser.add_argument("--beta", type=float, default=CertifyConfig.beta)
    options = parser.parse_args()
    base = CertifyConfig(sigma=1.0, reserve=options.reserve, beta=options.beta)
    rows = [
        compare(source, radius, options.repetitions, base)
        for source in sources(options.golden, options.run, options.images)
        for radius in RADII
        if radius < replace(base, sigma=source.sigma).largest_radius()
    ]
    result = {
        "command": "python benchmarks/stopping_rules.py --golden FOLDER --run RUN",
        **{name: getattr(options, name) for name in ("repetitions", "images", "reserve", "beta")},
        "mean_anytime_over_staged": float(np.mean([row["anytime_over_staged"] for row in rows])),
        "rows": rows,
    }
    (RESULTS / "stopping_rules.json").write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        cells = "  ".join(
            f"{n} {row[n]['samples']:>8,.0f} {100 * row[n]['certified']:5.1f}%" for n in RULES
        )
        print(
            f"{row['source'][:44]:44} r={row['radius']:<4} ({row['of_cap']:.2f} of cap)  {cells}"
            f"  anytime/staged {row['anytime_over_staged']:.2f}  lost {row['points_lost']:+.2f}"
        )
    print(f"mean anytime/staged {result['mean_anytime_over_staged']:.3f}")


if __name__ == "__main__":
    main()
