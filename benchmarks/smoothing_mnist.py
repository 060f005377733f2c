"""The published MNIST table, reproduced: Gaussian augmentation at sigma .25, .5 and 1.0.

For each sigma: train three members with the shipped recipe, then certify every 20th test
image with N = 100,000 and alpha = .001 in one pass for members and ensembles, and print both
beside the published figures. Training and certification are resumable: run the same command
again after an interruption, in as many sittings as it takes (about four hours of two cores).

    python benchmarks/smoothing_mnist.py --data-dir DATA --out FOLDER [--sigma 0.5] [--plan]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phalanx.runs.compare import Side, compare
from phalanx.runs.imports import import_log
from phalanx.runs.query import summarise
from phalanx.runs.store import RunStore
from phalanx.runtime.device import cores

RESULTS = Path(__file__).parent / "results"
SIGMAS = ("0.25", "0.5", "1.0")
MEMBERS = 3
EVERY = 20
# Jeong & Shin's five published logs, all 10,000 images; standard error over 500 images.
PUBLISHED = {"0.25": (0.911, 0.007), "0.5": (1.558, 0.018), "1.0": (1.618, 0.036)}
ALLOWED = 0.02
GOLDEN_SIGMA, GOLDEN = "0.5", "np_consistency_mnist_gauss_0.50.csv"


def phalanx(*arguments: str) -> None:
    """Run a command as a user would."""
    command = [sys.executable, "-m", "phalanx.cli.main", *arguments]
    print("$ phalanx", *arguments, file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def study(sigma: str, options: argparse.Namespace) -> None:
    """Train and certify at one sigma, or continue."""
    models, run = options.out / f"train-{sigma}", options.out / f"certify-{sigma}"
    data = ("--data-dir", str(options.data_dir))
    phalanx(
        *("train", "mnist-gaussian", *data, "--out", str(models)),
        *("--set", f"loss.sigma={sigma}", "--members", str(MEMBERS)),
    )
    certify = ["certify", str(models), "--data", "mnist", *data, "--every", str(EVERY)]
    certify += ["--precision", "bf16", "--each", "--out", str(run)]
    certify += ["--workers", str(options.workers)]
    for reducer in ("mean", "softmax", "vote", "max-margin"):
        certify += ["--reducer", reducer]
    phalanx(*certify, *(["--plan"] if options.plan else []))


def row(run: RunStore, sigma: str, golden: Path | None) -> dict[str, Any]:
    """Our figures at one sigma, beside the published ones."""
    published, error = PUBLISHED[sigma]
    names = [record.name for record in run.manifest.classifiers]
    found = {name: summarise(run, name) for name in names}
    radii = {name: summary.average_certified_radius for name, summary in found.items()}
    members = [name for name in names if name.startswith("member-")]
    best = max(members, key=lambda name: radii[name] or 0.0)
    pair = compare(Side(run, "mean"), Side(run, best))
    gaps = [abs((radii[name] or 0.0) - published) for name in members]
    return {
        "sigma": float(sigma),
        "images": found[best].images,
        "classifiers": {name: summary.as_json() for name, summary in found.items()},
        "published_acr": published,
        "allowed": ALLOWED + 2 * error,
        "members_within": [gap <= ALLOWED + 2 * error for gap in gaps],
        "best_member": best,
        "mean_minus_best_member": pair.as_json(),
        "digest": run.digest(),
        "golden_log": None if golden is None else _against(run, best, golden),
    }


def _against(run: RunStore, member: str, golden: Path) -> dict[str, Any]:
    """The best member against the published log on the same images, paired."""
    log = import_log(golden, None, sigma=0.5, n=100_000, alpha=0.001)
    return compare(Side(run, member), Side(log, log.manifest.classifiers[0].name)).as_json()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked, then write and print the table of what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sigma", choices=SIGMAS, action="append")
    parser.add_argument("--golden", type=Path, help="folder of published per-sample logs")
    parser.add_argument("--workers", type=int, default=cores(), help="processes that certify")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--table-only", action="store_true", help="print what is certified so far")
    options = parser.parse_args(arguments)
    for sigma in options.sigma or SIGMAS:
        if not options.table_only:
            study(sigma, options)
    rows = []
    for sigma in SIGMAS:
        folder = options.out / f"certify-{sigma}"
        golden = options.golden / GOLDEN if options.golden and sigma == GOLDEN_SIGMA else None
        if (folder / "run.json").exists():
            with RunStore.open(folder) as run:
                if run.finished():
                    rows.append(row(run, sigma, golden))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "smoothing_mnist.json").write_text(json.dumps(rows, indent=1) + "\n")
    for found in rows:
        print(
            f"sigma {found['sigma']:g}, {found['images']} images, published ACR"
            f" {found['published_acr']} (allowed difference {found['allowed']:.3f})"
        )
        for name, summary in found["classifiers"].items():
            print(
                f"  {name:12} ACR {summary['average_certified_radius']:.3f}"
                f"  clean {summary['clean_accuracy']:.3f}  abstained {summary['abstained']}"
            )
        acr = found["mean_minus_best_member"]["average_certified_radius"]
        print(f"  mean - {found['best_member']}: {acr}")


if __name__ == "__main__":
    main()
