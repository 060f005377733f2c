"""Double sampling against Neyman-Pearson at equal budget: MNIST, sigma .5 and 1.0, two trainings.

Networks are trained under generalised Gaussian noise with the Gaussian and the consistency loss.
Each is certified twice on the same images with the same total of samples: all of them under one
law (Neyman-Pearson), and shared between two by the selection (double sampling). The tables put
certified accuracy in l2 and l_inf, and the paired difference at each radius, beside the figures of
Li et al. (2022) and of the lecture that cites them. Every step is resumable: run the same command
again.

    python benchmarks/dsrs_study.py train --weights FOLDER --data-dir DATA --out OUT
    python benchmarks/dsrs_study.py certify --weights FOLDER --data-dir DATA --out OUT
    python benchmarks/dsrs_study.py table --weights FOLDER --data-dir DATA --out OUT

``--weights`` holds one MODEL for each network, a folder or a ``.safetensors`` file called
``gaussian-0.5``, ``gaussian-1.0``, ``consistency-0.5`` and ``consistency-1.0``; ``train`` makes
what is missing. ``--exercise`` trains one epoch and certifies ten images, and keeps its table in
``--out``: its figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smoothing_study import trained

from phalanx.reporting.published import PublishedCurve, figures
from phalanx.runs.compare import RadiusRow, Side, compare
from phalanx.runs.query import summarise
from phalanx.runs.store import RunStore
from phalanx.runtime.device import cores

RESULTS = Path(__file__).parent / "results"
MACHINE = ("processor", "device", "platform", "python", "packages")
NOISE = "generalised-gaussian"
TRAININGS = {"gaussian": "Gaussian augmentation", "consistency": "Consistency"}
SIGMAS = ("0.5", "1.0")
VARIANTS: dict[str, dict[str, str]] = {
    "plain": {},
    "double": {"certificate": "double-sampling"},
    "double-truncation": {"certificate": "double-sampling", "second": "truncation"},
}
PLAIN, DOUBLE = "plain", "double"
VALUES = 784
PUBLISHED = {"plain": "Neyman-Pearson", "double": "double sampling (DSRS)"}
SOURCE = (
    "lecture on certified robustness, tables 1 and 2 (after Li et al., ICML 2022): percent of 1,000"
    " images, 2 x 50,000 samples for double sampling; it names no sigma"
)
Rows = dict[str, dict[float, tuple[float, float]]]
LECTURE_L2: Rows = {
    "gaussian": {
        **{0.4: (93.5, 93.6), 0.8: (86.3, 87.2), 1.2: (73.4, 75.3), 1.6: (50.5, 57.1)},
        **{2.0: (25.5, 34.1), 2.4: (9.0, 14.2), 2.8: (1.8, 0.0)},
    },
    "consistency": {
        **{0.4: (92.8, 92.8), 0.8: (86.0, 86.4), 1.2: (74.7, 76.9), 1.6: (57.2, 61.5)},
        **{2.0: (35.6, 41.9), 2.4: (13.5, 23.3), 2.8: (3.5, 7.1)},
    },
}
"""Neyman-Pearson and double sampling by l2 radius."""
LECTURE_LINF: Rows = {
    "gaussian": {
        **{2: (97.4, 97.5), 4: (95.8, 96.1), 6: (92.4, 92.7), 8: (85.2, 86.8)},
        **{10: (73.2, 77.6), 12: (50.7, 60.0), 14: (22.6, 29.7)},
    },
    "consistency": {
        **{2: (98.2, 98.2), 4: (96.4, 96.4), 6: (93.9, 94.3), 8: (88.3, 89.0)},
        **{10: (78.7, 81.9), 12: (62.7, 67.5), 14: (37.8, 43.2)},
    },
}
"""The same by l_inf radius in 255ths."""


def phalanx(*arguments: str) -> None:
    """Run a command as a user would."""
    command = [sys.executable, "-m", "phalanx.cli.main", *arguments]
    print("$ phalanx", *arguments, file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def train(training: str, sigma: str, options: argparse.Namespace) -> None:
    """Train a network that is not there, or go on with it."""
    folder = options.weights / f"{training}-{sigma}"
    words = [
        "train",
        f"mnist-{training}",
        "--data-dir",
        str(options.data_dir),
        "--out",
        str(folder),
    ]
    words += ["--set", f"loss.sigma={sigma}", "--set", f"noise.name={NOISE}"]
    epochs = 1 if options.exercise else options.epochs
    phalanx(*words, *(["--set", f"epochs={epochs}"] if epochs else []))


def run_folder(training: str, sigma: str, variant: str, options: argparse.Namespace) -> Path:
    """Where a network's run is kept."""
    return Path(options.out) / f"{training}-{sigma}-{variant}"


def certify(training: str, sigma: str, variant: str, options: argparse.Namespace) -> None:
    """Certify a network, or go on with it."""
    words = ["certify", str(options.weights / f"{training}-{sigma}"), "--data", "mnist"]
    words += ["--data-dir", str(options.data_dir), "--sigma", sigma, "--noise", NOISE]
    words += [
        "--n",
        str(options.n),
        "--every",
        str(options.every),
        "--precision",
        options.precision,
    ]
    words += ["--workers", str(options.workers), "--device", options.device]
    words += ["--out", str(run_folder(training, sigma, variant, options))]
    for name, value in VARIANTS[variant].items():
        words += ["--set", f"{name}={value}"]
    words += ["--limit", "10"] if options.exercise else []
    phalanx(*words, *(["--batch", options.batch] if options.batch else []))


def published(training: str, sigma: str, variant: str) -> PublishedCurve | None:
    """The authors' own curve at this sigma."""
    found = [
        curve
        for curve in figures("mnist", float(sigma), noise="generalised gaussian")
        if curve.training == TRAININGS[training]
        and curve.certificate == PUBLISHED[variant.partition("-")[0]]
    ]
    return found[0] if found else None


def shared(run: RunStore) -> dict[str, int]:
    """How many images gave the first law how many samples."""
    counts: dict[str, int] = {}
    for record in run.certificates():
        key = str(record.details.get("n_p", record.n))
        counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: int(item[0])))


def accuracies(row: RadiusRow) -> dict[str, Any]:
    """A radius of a paired comparison, double sampling first."""
    return {
        "neyman_pearson": row.b,
        "double_sampling": row.a,
        "difference": row.difference,
        "interval": list(row.interval),
    }


def row_of(
    training: str, sigma: str, variant: str, runs: tuple[RunStore, RunStore], weights: Path
) -> dict[str, Any]:
    """Our figures of one network, beside the published ones at its sigma.

    Args:
        training, sigma, variant: which network, and how samples were shared in the second run.
        runs: Neyman-Pearson and double sampling.
        weights: the folder of networks.
    """
    plain, double = runs
    curves = [published(training, sigma, which) for which in (PLAIN, variant)]
    radii = sorted(curves[0].certified) if curves[0] else [0.25 * k for k in range(1, 13)]
    l2 = sorted({0.0, *radii, *LECTURE_L2[training]})
    linf = list(LECTURE_LINF[training])
    sides = Side.of(double, name="double sampling"), Side.of(plain, name="Neyman-Pearson")
    in_l2 = compare(*sides, radii=l2)
    in_linf = compare(*sides, radii=[k / 255 * math.sqrt(VALUES) for k in linf])
    found: dict[str, Any] = {
        "training": training,
        "sigma": float(sigma),
        "variant": variant,
        "images": in_l2.images,
        "n": [run.manifest.config["n"] for run in (plain, double)],
        "second": [double.manifest.config[key] for key in ("second", "second_level")],
        "samples_of_the_first_law": shared(double),
        "average_certified_radius": in_l2.as_json()["average_certified_radius"],
        "epochs": trained(weights / f"{training}-{sigma}")["epochs"],
        "clean_accuracy": summarise(plain).clean_accuracy,
        "l2": {f"{row.radius:g}": accuracies(row) for row in in_l2.rows},
        "linf": {f"{k}/255": accuracies(r) for k, r in zip(linf, in_linf.rows, strict=True)},
        "environment": {key: plain.manifest.environment.get(key) for key in MACHINE},
        "digests": [plain.digest(), double.digest()],
    }
    if curves[0] and curves[1]:
        found["published"] = {
            "source": curves[0].source,
            "average_certified_radius": [curve.acr for curve in curves if curve],
            "l2": {
                f"{radius:g}": [curve.certified.get(radius) for curve in curves if curve]
                for radius in radii
            },
        }
    return found


def best_of_sigmas(rows: Sequence[dict[str, Any]], training: str, norm: str) -> dict[str, Any]:
    """At each radius of the lecture the larger of our accuracies over sigma, of both methods."""
    table = LECTURE_L2 if norm == "l2" else LECTURE_LINF
    result: dict[str, Any] = {}
    for radius, cited in table[training].items():
        key = f"{radius:g}" if norm == "l2" else f"{radius}/255"
        ours = [row[norm][key] for row in rows if row["training"] == training]
        methods = ("neyman_pearson", "double_sampling")
        best = [max(one[method] for one in ours) for method in methods]
        result[key] = {"ours": best, "lecture": [value / 100 for value in cited]}
    return result


def show(rows: Sequence[dict[str, Any]], lecture: dict[str, Any]) -> None:
    """Print the tables."""
    for row in rows:
        gained = row["average_certified_radius"]
        low, high = gained["interval"]
        print(
            f"{row['training']}, sigma {row['sigma']:g}, {row['variant']}: {row['images']} images,"
            f" n = {row['n'][1]:,}; ACR {gained['b']:.3f} -> {gained['a']:.3f}"
            f" ({gained['difference']:+.4f} [{low:+.4f}, {high:+.4f}])"
        )
        cited = row.get("published")
        if cited:
            print("  published ACR {:.3f} -> {:.3f}".format(*cited["average_certified_radius"]))
        print(f"  samples of the first law, by images: {row['samples_of_the_first_law']}")
        for key, one in row["l2"].items():
            print(f"  l2 {key:>7}  {_line(one)}{_cited(cited, key)}")
        for key, one in row["linf"].items():
            print(f"  linf {key:>6} {_line(one)}")
    for training, norms in lecture.items():
        sigmas = {f"{row['sigma']:g}" for row in rows if row["training"] == training}
        print(f"{training}, the best of sigma {', '.join(sorted(sigmas))} at each radius")
        for norm, table in norms.items():
            for key, one in table.items():
                ours, cited = one["ours"], one["lecture"]
                print(
                    f"  {norm:4} {key:>7}  {_percent(ours[0])} -> {_percent(ours[1])}"
                    f" ({100 * (ours[1] - ours[0]):+5.1f});  lecture {_percent(cited[0])} ->"
                    f" {_percent(cited[1])} ({100 * (cited[1] - cited[0]):+5.1f})"
                )


def _line(one: dict[str, Any]) -> str:
    low, high = (100 * end for end in one["interval"])
    return (
        f"{_percent(one['neyman_pearson'])} -> {_percent(one['double_sampling'])}"
        f" ({100 * one['difference']:+5.1f} [{low:+.1f}, {high:+.1f}])"
    )


def _cited(cited: dict[str, Any] | None, key: str) -> str:
    if not cited or key not in cited["l2"]:
        return ""
    before, after = (value or 0.0 for value in cited["l2"][key])
    change = f"{100 * (after - before):+5.1f}"
    return f";  published {_percent(before)} -> {_percent(after)} ({change})"


def _percent(share: float) -> str:
    return f"{100 * share:5.1f}%"


def tables(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of all networks that are certified in full, and the best of them beside the lecture."""
    rows = []
    for training in TRAININGS:
        for sigma in options.sigma or SIGMAS:
            folders = {v: run_folder(training, sigma, v, options) for v in VARIANTS}
            there = {v: folder for v, folder in folders.items() if (folder / "run.json").exists()}
            if PLAIN not in there:
                continue
            with RunStore.open(there.pop(PLAIN)) as plain:
                for variant, folder in there.items():
                    with RunStore.open(folder) as double:
                        if plain.finished() and plain.finished() == double.finished():
                            rows.append(
                                row_of(training, sigma, variant, (plain, double), options.weights)
                            )
    main = [row for row in rows if row["variant"] == DOUBLE]
    lecture = {
        training: {norm: best_of_sigmas(main, training, norm) for norm in ("l2", "linf")}
        for training in TRAININGS
        if any(row["training"] == training for row in main)
    }
    return rows, lecture


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out a step for every network, then write and print what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("train", "certify", "table"))
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sigma", action="append", choices=SIGMAS, help="default: both")
    parser.add_argument("--training", action="append", choices=TRAININGS, help="default: both")
    parser.add_argument(
        "--variant", action="append", choices=VARIANTS, help="default: plain, double"
    )
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--n", type=int, default=100_000, help="samples of an image, of both laws")
    parser.add_argument("--every", type=int, default=20, help="one test image of so many")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=cores(), help="processes that certify")
    parser.add_argument("--batch", help="rows of every forward pass; default: tuned")
    parser.add_argument("--exercise", action="store_true", help="one epoch, ten images")
    options = parser.parse_args(arguments)
    for training in options.training or TRAININGS:
        for sigma in options.sigma or SIGMAS:
            if options.step == "train":
                train(training, sigma, options)
            for variant in (
                (options.variant or (PLAIN, DOUBLE)) if options.step == "certify" else ()
            ):
                certify(training, sigma, variant, options)
    if options.step == "train":
        return
    rows, lecture = tables(options)
    if rows:
        command = "python benchmarks/dsrs_study.py certify --weights FOLDER --data-dir DATA"
        command += f" --out OUT --n {rows[0]['n'][0]}"
        result = {"command": command, "rows": rows, "lecture": {"source": SOURCE, **lecture}}
        name = f"dsrs_mnist{'_exercise' if options.exercise else ''}.json"
        (options.out if options.exercise else RESULTS).joinpath(name).write_text(
            json.dumps(result, indent=1) + "\n"
        )
    show(rows, lecture)


if __name__ == "__main__":
    main()
