"""``phalanx demo``: from nothing to a certified ensemble, its evidence and its report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phalanx.cli import options as opt
from phalanx.cli.console import answer, answer_json, log
from phalanx.errors import ParameterError

if TYPE_CHECKING:
    from phalanx.data.dataset import Dataset
    from phalanx.evaluation.request import Request
    from phalanx.models.model import Model
    from phalanx.runs.store import RunStore


@dataclass(frozen=True)
class Scale:
    """What the demo does on one data set, chosen for two CPU cores."""

    recipe: str
    overrides: tuple[str, ...]
    every: int
    n: int
    precision: str


SCALES = {
    "digits": Scale("digits-gaussian", (), every=1, n=10_000, precision="fp32"),
    "mnist": Scale("mnist-gaussian", ("members=3", "epochs=2"), 50, 10_000, "fp32"),
}
CORRELATION_IMAGES = 60


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="demo")(demo)


def demo(
    data: Annotated[str, typer.Option(help="digits (built in) or mnist")] = "digits",
    data_dir: opt.DataDir = None,
    out: opt.Out = None,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    json: opt.Json = False,
) -> None:
    """Train three members with Gaussian noise, certify them and their ensembles, report."""
    if data not in SCALES:
        raise ParameterError(f"no demo on {data!r}", repair=f"--data {' or --data '.join(SCALES)}")
    from phalanx.data.locate import load
    from phalanx.runs.provenance import new_run_folder

    started = time.monotonic()
    dataset = load(data, data_dir)
    out = out or new_run_folder(f"demo-{data}")
    scale = SCALES[data]
    log(f"1/4  training three members with Gaussian noise only ({scale.recipe})")
    models = _train(scale, data_dir, out / "weights", seed, device)
    request = _request(scale, models, dataset, seed, device)
    with _certify(request, out) as store:
        log("3/4  measuring how the members' margins correlate under noise")
        correlation = _correlate(request, store)
        log("4/4  writing the report")
        _write(store)
        _answer(store, correlation, json)
    log(f"{time.monotonic() - started:.0f} s; open {out}/report.html, or: phalanx runs show {out}")
    log(str(out))


def _train(scale: Scale, data_dir: Path | None, out: Path, seed: int, device: str) -> list[Model]:
    from phalanx.cli.training_view import TrainingView
    from phalanx.training.shelf import load_recipe
    from phalanx.training.trainer import train

    recipe = load_recipe(scale.recipe, [*scale.overrides, f"seed={seed}"])
    with TrainingView() as view:
        return train(recipe, out=out, data_dir=data_dir, device=device, watch=view)


def _request(
    scale: Scale, models: list[Model], dataset: Dataset, seed: int, device: str
) -> Request:
    from phalanx.ensembles.ensemble import reducers
    from phalanx.evaluation.request import request_of

    return request_of(
        models,
        dataset,
        {"n": scale.n, "seed": seed, "precision": scale.precision},
        indices=dataset.select(every=scale.every),
        reducer_names=["mean", *(name for name in reducers.names() if name != "mean")],
        each=True,
        device=device,
    )


def _certify(request: Request, out: Path) -> RunStore:
    from phalanx.cli.certify import command_line, sweep
    from phalanx.evaluation.request import open_run, settle

    log(
        f"2/4  certifying {len(request.indices)} test images, {request.config.n:,} noise samples"
        f" each; one pass serves all {len(request.classifiers)} classifiers"
    )
    request, store = open_run(settle(request, out), out, command=command_line())
    sweep(request, store)
    return store


def _correlate(request: Request, store: RunStore) -> str:
    from phalanx.diagnostics.attach import Diagnosis, attach
    from phalanx.diagnostics.measure import report
    from phalanx.diagnostics.theory import conditions
    from phalanx.ensembles.ensemble import Ensemble

    stride = max(1, len(request.indices) // CORRELATION_IMAGES)
    ensemble = Ensemble(request.models).to(request.device)
    indices, sigma, seed = (
        list(request.indices)[::stride],
        request.config.sigma,
        request.config.seed,
    )
    found = report(ensemble, request.dataset, indices, sigma, seed=seed, alpha=request.config.alpha)
    theory = conditions(ensemble, request.dataset, indices, sigma, seed=seed)
    diagnosis = Diagnosis(found, theory)
    attach(store, diagnosis, request.models, request.dataset.card.name)
    return diagnosis.table()


def _write(store: RunStore) -> None:
    from phalanx.reporting.curves import plot_runs
    from phalanx.reporting.html import write_report

    if store.folder is not None:
        write_report(store)
        plot_runs([store], store.folder / "curve.png")


def _answer(store: RunStore, correlation: str, json: bool) -> None:
    from phalanx.reporting.tables import (
        chosen_radii,
        comparisons,
        paired_table,
        summaries,
        summary_table,
    )
    from phalanx.runs.query import run_json

    if json:
        answer_json(run_json(store) | {"correlation": store.get_meta("correlation")})
        return
    radii = chosen_radii(store, 5)
    answer(summary_table(store, radii).text())
    answer("")
    answer(paired_table(comparisons(store, summaries(store, radii), radii)).text())
    answer("")
    answer(correlation)
