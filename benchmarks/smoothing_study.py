"""Published tables, reproduced: Gaussian augmentation on MNIST and CIFAR-10.

For each noise level: train members with the shipped recipe, then certify in one pass for
members and ensembles with N = 100,000 and alpha = .001, and print them beside the published
figures. Training and certification are resumable: run the same command again after an
interruption, in as many sittings as it takes (MNIST: about three hours of two cores with
bfloat16 arithmetic; CIFAR-10: a GPU).

    python benchmarks/smoothing_study.py mnist --data-dir DATA --out FOLDER [--sigma 0.5] [--plan]
    python benchmarks/smoothing_study.py cifar10-resnet110 --data-dir DATA --out FOLDER --exercise

``--epochs`` trains for fewer than the recipe says, the steps of its rate drawn together in
proportion, and ``--n`` draws fewer samples; the results say so. ``--exercise`` trains one
epoch and certifies ten images with n = 1000: it shows that the recipe runs on the real data,
and its figures say nothing about the method.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from phalanx.data.locate import load
from phalanx.reporting.published import PublishedCurve, figures
from phalanx.runs.compare import Side, compare
from phalanx.runs.imports import import_log
from phalanx.runs.query import summarise
from phalanx.runs.store import RunStore
from phalanx.runtime.device import cores
from phalanx.training.shelf import load_recipe

RESULTS = Path(__file__).parent / "results"
MACHINE = ("processor", "device", "platform", "python", "packages")
REDUCERS = ("mean", "softmax", "vote", "max-margin")


@dataclass(frozen=True)
class Study:
    """One published table.

    Attributes:
        recipe, data: what is trained and certified.
        network: as the published figures name it.
        members: networks trained at each sigma.
        every: one test image of so many is certified.
        allowed: largest difference from the published ACR by sigma: .02 and two standard
            errors over the images; empty where no such figure is known.
        golden: published per-sample logs by sigma.
    """

    recipe: str
    data: str
    network: str
    sigmas: tuple[str, ...]
    members: int
    every: int
    allowed: dict[str, float]
    golden: dict[str, str]


STUDIES = {
    "mnist": Study(
        recipe="mnist-gaussian",
        data="mnist",
        network="MNIST network of the smoothing papers",
        sigmas=("0.25", "0.5", "1.0"),
        members=3,
        every=20,
        allowed={"0.25": 0.02 + 2 * 0.007, "0.5": 0.02 + 2 * 0.018, "1.0": 0.02 + 2 * 0.036},
        golden={"0.5": "np_consistency_mnist_gauss_0.50.csv"},
    ),
    "cifar10-resnet20": Study(
        *("cifar10-resnet20-gaussian", "cifar10", "ResNet-20", ("0.5", "0.25"), 1, 2, {}, {})
    ),
    "cifar10-resnet110": Study(
        *("cifar10-resnet110-gaussian", "cifar10", "ResNet-110", ("0.25", "0.5"), 1, 2, {}, {})
    ),
}


def phalanx(*arguments: str) -> None:
    """Run a command as a user would."""
    command = [sys.executable, "-m", "phalanx.cli.main", *arguments]
    print("$ phalanx", *arguments, file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def carry_out(study: Study, sigma: str, options: argparse.Namespace) -> None:
    """Train and certify at one sigma, or continue."""
    models, run = options.out / f"train-{sigma}", options.out / f"certify-{sigma}"
    data = ("--data-dir", str(options.data_dir))
    train = ["train", study.recipe, *data, "--out", str(models), "--set", f"loss.sigma={sigma}"]
    train += ["--members", str(study.members)]
    certify = ["certify", str(models), "--data", study.data, *data, "--precision", "bf16"]
    certify += ["--workers", str(options.workers), "--out", str(run), "--n", str(options.n)]
    if study.members > 1:
        certify += ["--each", *(word for name in REDUCERS for word in ("--reducer", name))]
    if options.exercise:
        train += ["--set", "epochs=1"]
        certify += ["--every", "100", "--limit", "10"]
    else:
        train += shortened(study, options.epochs)
        certify += ["--every", str(study.every)]
    if options.batch:
        certify += ["--batch", options.batch]
    phalanx(*train)
    phalanx(*certify, *(["--plan"] if options.plan else []))


def shortened(study: Study, epochs: int | None) -> list[str]:
    """Words that train for so many epochs, and step the rate at the same parts of them."""
    if epochs is None:
        return []
    recipe = load_recipe(study.recipe)
    words = ["--set", f"epochs={epochs}"]
    if recipe.schedule.name == "step":
        step = max(1, round(recipe.schedule.step_epochs * epochs / recipe.epochs))
        words += ["--set", f"schedule.step_epochs={step}"]
    return words


def published(study: Study, sigma: str) -> PublishedCurve | None:
    """The literature's figure for this network, data and noise, if there is one."""
    found = [
        curve
        for curve in figures(study.data, float(sigma))
        if curve.network == study.network
        and curve.training.startswith("Gaussian augmentation")
        and curve.acr is not None
    ]
    return found[0] if found else None


def row(name: str, run: RunStore, sigma: str, golden: Path | None) -> dict[str, Any]:
    """Our figures at one sigma of a study, beside the published ones."""
    study = STUDIES[name]
    ours = [record.name for record in run.manifest.classifiers]
    found = {one: summarise(run, one) for one in ours}
    radii = {one: summary.average_certified_radius or 0.0 for one, summary in found.items()}
    members = [one for one in ours if one.startswith("member-")] or ours
    best = max(members, key=lambda one: radii[one])
    beside, allowed = published(study, sigma), study.allowed.get(sigma)
    acr = None if beside is None else beside.acr
    result: dict[str, Any] = {
        "sigma": float(sigma),
        "images": found[best].images,
        "n": run.manifest.config["n"],
        "command": f"python benchmarks/smoothing_study.py {name} --data-dir DATA --out FOLDER"
        f" --sigma {sigma} --n {run.manifest.config['n']}",
        "environment": {key: run.manifest.environment.get(key) for key in MACHINE},
        "batch": run.manifest.config["batch"],
        "classifiers": {one: summary.as_json() for one, summary in found.items()},
        "published_acr": acr,
        "published_source": None if beside is None else beside.source,
        "published_caution": None if beside is None else beside.caution,
        "allowed": allowed and round(allowed, 3),
        "best_member": best,
        "digest": run.digest(),
    }
    if acr is not None and allowed is not None:
        result["members_within"] = {one: abs(radii[one] - acr) <= allowed for one in members}
    if len(members) > 1:
        result["minus_best_member"] = {
            one: compare(Side.of(run, one), Side.of(run, best)).as_json()
            for one in ours
            if one not in members
        }
    if golden is not None and sigma in study.golden:
        result["minus_golden_log"] = {
            one: _against(run, one, golden / study.golden[sigma]) for one in ours
        }
    return result


def trained(folder: Path) -> dict[str, Any]:
    """How long the members were trained, where and in which arithmetic."""
    manifest = json.loads((folder / "run.json").read_text())
    log = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    last = max(log, key=lambda event: event.get("epoch", 0))
    return {
        "epochs": manifest["config"]["recipe"]["epochs"],
        "precision": manifest["config"]["precision"],
        "device": manifest["environment"]["device"],
        "seconds_of_last_epoch": last["seconds"],
        "noisy_accuracy": last["noisy_accuracy"],
    }


def _against(run: RunStore, name: str, log: Path) -> dict[str, Any]:
    """One of our classifiers against a published log on the same images, paired."""
    config = run.manifest.config
    read = import_log(log, None, sigma=config["sigma"], n=config["n"], alpha=config["alpha"])
    return compare(Side.of(run, name), Side.of(read, read.manifest.classifiers[0].name)).as_json()


def show(found: dict[str, Any]) -> None:
    """Print one sigma's table."""
    print(
        f"sigma {found['sigma']:g}, {found['images']} images, n = {found['n']:,};"
        f" published ACR {found['published_acr']} (allowed difference {found['allowed']})"
    )
    for name, summary in found["classifiers"].items():
        line = (
            f"  {name:12} ACR {summary['average_certified_radius']:.3f}"
            f"  clean {summary['clean_accuracy']:.3f}  abstained {summary['abstained']}"
        )
        for other in ("minus_best_member", "minus_golden_log"):
            if name in found.get(other, {}):
                gap = found[other][name]["average_certified_radius"]
                line += f"  {other.replace('_', ' ')} {_interval(gap)}"
        print(line)


def _interval(gap: dict[str, Any]) -> str:
    low, high = gap["interval"]
    return f"{gap['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"


def kept(file: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows found now, and those an earlier sitting kept for other sigmas."""
    earlier = json.loads(file.read_text()) if file.exists() else []
    now = {found["sigma"] for found in rows}
    return sorted(
        [*rows, *(old for old in earlier if old["sigma"] not in now)], key=lambda r: r["sigma"]
    )


def finished_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for every sigma that is certified in full."""
    study = STUDIES[options.study]
    rows, data = [], load(study.data, options.data_dir)
    every, limit = (100, 10) if options.exercise else (study.every, None)
    images = len(data.select(every=every, limit=limit))
    for sigma in study.sigmas:
        folder = options.out / f"certify-{sigma}"
        if (folder / "run.json").exists():
            with RunStore.open(folder) as run:
                if len(run.finished()) == images:
                    found = row(options.study, run, sigma, options.golden)
                    rows.append(found | {"trained": trained(options.out / f"train-{sigma}")})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked, then write and print the table of what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sigma", action="append", help="default: every published one")
    parser.add_argument("--golden", type=Path, help="folder of published per-sample logs")
    workers = 1 if torch.cuda.is_available() else cores()
    parser.add_argument("--workers", type=int, default=workers, help="processes that certify")
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--n", type=int, default=100_000, help="samples an image")
    parser.add_argument("--batch", help="rows of every forward pass; default: tuned")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--exercise", action="store_true", help="one epoch, ten images, n = 1000")
    parser.add_argument("--table-only", action="store_true", help="print what is certified so far")
    options = parser.parse_args(arguments)
    if options.exercise:
        options.n = 1000
    study = STUDIES[options.study]
    for sigma in options.sigma or study.sigmas:
        if not options.table_only:
            carry_out(study, sigma, options)
    name = f"smoothing_{options.study}{'_exercise' if options.exercise else ''}.json"
    rows = kept(RESULTS / name, finished_rows(options))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(rows, indent=1) + "\n")
    for found in rows:
        show(found)


if __name__ == "__main__":
    main()
