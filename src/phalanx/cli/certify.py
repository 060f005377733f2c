"""``phalanx certify``: what is proven about a model or an ensemble on a data set."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from phalanx.cli import options as opt
from phalanx.cli.console import answer, answer_json, log
from phalanx.errors import ConfigurationError, ParameterError, SampleErrors

if TYPE_CHECKING:
    from phalanx.evaluation.certify import Request
    from phalanx.models.resolve import Declaration
    from phalanx.runs.store import RunStore

CONFIG_BYTES = 1 << 20


@dataclass(frozen=True)
class Asked:
    """The command line, as typed."""

    models: list[str]
    data: str
    data_dir: Path | None
    sigma: str | None
    n: int
    n0: int
    alpha: float
    reducer: list[str] | None
    each: bool
    out: Path | None
    limit: int | None
    every: int
    seed: int
    device: str
    workers: int
    batch: str
    precision: str
    allow_sigma_mismatch: bool
    plan: bool
    budget: str | None
    require: list[str] | None
    overrides: list[str] | None
    config: Path | None
    json: bool
    input_range: tuple[float, float] | None
    mean: str | None
    std: str | None
    classes: int | None
    normalised_inside: bool
    weights: Path | None


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="certify")(certify)


def certify(
    models: opt.Models,
    data: opt.Data = "digits",
    data_dir: opt.DataDir = None,
    sigma: Annotated[
        str | None, typer.Option(help="noise level in input units; default: the card's")
    ] = None,
    n: Annotated[int, typer.Option(help="estimation samples per image")] = 100_000,
    n0: Annotated[int, typer.Option(help="selection samples per image")] = 100,
    alpha: Annotated[float, typer.Option(help="failure probability of a certificate")] = 0.001,
    reducer: Annotated[
        list[str] | None,
        typer.Option(help="ensemble under this reducer; repeat for several in one pass"),
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="every model on its own")] = False,
    out: opt.Out = None,
    limit: opt.Limit = None,
    every: opt.Every = 1,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    workers: opt.Workers = 1,
    batch: Annotated[str, typer.Option(help="rows of a forward pass, or auto")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16")] = "fp32",
    allow_sigma_mismatch: Annotated[
        bool, typer.Option("--allow-sigma-mismatch", help="certify at another sigma")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="print cost and largest radius, run nothing")
    ] = False,
    budget: Annotated[str | None, typer.Option(help="best answer within 90s, 10m, 2h")] = None,
    require: Annotated[
        list[str] | None, typer.Option(help="for example 'certified@0.5>=0.6'; exit 5 if unmet")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="any option of the run, name=value")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of such options")] = None,
    json: opt.Json = False,
    input_range: opt.InputRange = None,
    mean: opt.Mean = None,
    std: opt.Std = None,
    classes: opt.Classes = None,
    normalised_inside: opt.NormalisedInside = False,
    weights: opt.Weights = None,
) -> None:
    """Certify models (several are an ensemble before smoothing) by randomized smoothing."""
    execute(Asked(**locals()))


def execute(asked: Asked) -> None:
    """Settle, plan or run, then answer."""
    started = time.monotonic()
    request = _request(asked)
    from phalanx.evaluation.certify import check_request, open_run, settle
    from phalanx.runs.provenance import new_run_folder
    from phalanx.runs.require import parse

    for condition in asked.require or []:
        parse(condition)  # hours later would be late to refuse it

    check_request(request)
    out = asked.out
    if out is None and not asked.plan:
        out = new_run_folder(f"certify-{Path(asked.data).stem}")
    request = settle(request, out)
    if asked.plan:
        _plan(request, asked)
        return
    deadline = None
    if asked.budget is not None:
        request, deadline = _fit(request, asked.budget, started)
    with open_run(request, out, command=command_line(), kind="certify") as store:
        sweep(request, store, asked.workers, deadline)
        report(store, asked)


def _request(asked: Asked) -> Request:
    from phalanx.api import sigma_of
    from phalanx.data.locate import load
    from phalanx.evaluation.certify import Request
    from phalanx.evaluation.config import CertifyConfig
    from phalanx.models.resolve import resolve_all
    from phalanx.runtime.device import resolve_device
    from phalanx.runtime.executors import check_workers
    from phalanx.smoothing.classifiers import classifiers_of

    check_workers(asked.workers)
    limit_threads()
    wanted = opt.number(asked.sigma) if asked.sigma is not None else None
    base = CertifyConfig(
        sigma=1.0 if wanted is None else wanted,
        n=asked.n,
        n0=asked.n0,
        alpha=asked.alpha,
        seed=asked.seed,
        batch=None if asked.batch == "auto" else _whole("--batch", asked.batch),
        precision=asked.precision,
    ).with_options(_options(asked))
    models = resolve_all(asked.models, _declaration(asked))
    level = sigma_of(models, wanted, allow_mismatch=asked.allow_sigma_mismatch)
    names = asked.reducer if asked.reducer is not None else ([] if asked.each else ["mean"])
    dataset = load(asked.data, asked.data_dir)
    return Request(
        models=models,
        classifiers=classifiers_of(len(models), reducer_names=names, each=asked.each),
        dataset=dataset,
        indices=dataset.select(every=asked.every, limit=asked.limit),
        config=base.with_options({"sigma": level}),
        device=resolve_device(asked.device),
    )


def _declaration(asked: Asked) -> Declaration:
    return opt.declaration(
        asked.input_range,
        asked.mean,
        asked.std,
        asked.classes,
        asked.normalised_inside,
        asked.weights,
    )


def _options(asked: Asked) -> dict[str, Any]:
    """Options of ``--config``, then of ``--set``, which wins."""
    found: dict[str, Any] = {}
    if asked.config is not None:
        found.update(_read_config(asked.config))
    for item in asked.overrides or []:
        name, sign, value = item.partition("=")
        if not sign:
            raise ConfigurationError(f"--set {item!r}", repair="--set name=value")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigurationError(
                f"--set {item!r} cannot be read", why=str(error), repair="--set name=value"
            ) from None
    return found


def _read_config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > CONFIG_BYTES:
            raise ConfigurationError(f"{path} is larger than a configuration file can be")
        value = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read", why=str(error)) from None
    if not isinstance(value, dict):
        raise ConfigurationError(f"{path} is not a mapping of options")
    return value


def _plan(request: Request, asked: Asked) -> None:
    from phalanx.evaluation.plan import measured_rate, plan

    found = plan(request, measured_rate(request))
    if asked.json:
        answer_json(found.as_dict())
    else:
        answer("\n".join(found.lines()))


def _fit(request: Request, budget: str, started: float) -> tuple[Request, float]:
    from phalanx.evaluation.plan import fit_budget, measured_rate, seconds_of

    seconds = seconds_of(budget)
    rate = measured_rate(request)
    left = max(seconds - (time.monotonic() - started), 1.0)
    fitted = fit_budget(request, rate, left)
    if fitted is not request:
        log(
            f"to fit {budget}: {len(fitted.indices)} of {len(request.indices)} images,"
            f" n = {fitted.config.n:,} (fixed before the first sample)"
        )
    return fitted, started + seconds


def sweep(request: Request, store: RunStore, workers: int, deadline: float | None) -> None:
    """Run the sweep here, or in several processes that share the store."""
    from phalanx.cli.progress import certify_progress, watch
    from phalanx.evaluation.certify import Sweep
    from phalanx.runtime.executors import is_worker, start_workers

    if workers > 1 and not is_worker():
        watch(request, store, start_workers(worker_arguments(sys.argv[1:], store), workers))
        return
    with certify_progress(request, store) as progress:
        Sweep(request, store, progress, deadline).run()


def worker_arguments(arguments: list[str], store: RunStore) -> list[str]:
    """The same command line, told where the run is if it was not."""
    told = any(word == "--out" or word.startswith("--out=") for word in arguments)
    return arguments if told else [*arguments, "--out", str(store.folder)]


def report(store: RunStore, asked: Asked) -> None:
    """Print the answer; raise for unmet requirements and errored samples."""
    from phalanx.reporting.tables import summary_table
    from phalanx.runs.query import run_json, summarise
    from phalanx.runs.require import check

    if asked.json:
        answer_json(run_json(store))
    else:
        answer(summary_table(store).text())
    log(str(store.folder))
    summary = summarise(store)
    for condition in asked.require or []:
        check(summary, condition)
    errors = sum(summarise(store, record.name).errors for record in store.manifest.classifiers)
    if errors:
        raise SampleErrors(
            f"{errors} certificates ended in an error and count as not certified",
            repair=f"phalanx runs explain {store.folder} IMAGE",
        )


def limit_threads() -> None:
    """Keep to the share of the machine a worker was given."""
    import torch

    from phalanx.runtime.executors import threads_for_worker

    threads = threads_for_worker()
    if threads is not None:
        torch.set_num_threads(threads)


def command_line() -> str:
    """The command as it would be typed again."""
    import shlex

    return shlex.join(["phalanx", *sys.argv[1:]]) if sys.argv[1:] else os.path.basename(sys.argv[0])


def _whole(option: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ParameterError(f"{option} is {text!r}", repair=f"{option} auto or a number") from None
