"""``phalanx certify``: what is proven about a model or an ensemble on a data set."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phalanx.cli import options as opt
from phalanx.cli.console import answer, answer_json, images_bar, log
from phalanx.cli.declaring import Declaration, declaring
from phalanx.errors import ParameterError, PhalanxError, RequirementUnmet, SampleErrors

if TYPE_CHECKING:
    from phalanx.evaluation.bounding import BoundRequest
    from phalanx.evaluation.request import Request
    from phalanx.models.declaration import Declaration
    from phalanx.runs.store import RunStore

Sigma = Annotated[str | None, typer.Option(help="noise level in input units; default: the card's")]
Samples = Annotated[int | None, typer.Option(help="estimation samples per image [100000]")]
Selection = Annotated[int | None, typer.Option(help="selection samples per image [100]")]
Alpha = Annotated[str | None, typer.Option(help="failure probability of a certificate [0.001]")]
Stop = Annotated[
    str | None, typer.Option(help="stopping rule [anytime if radii are given, else fixed]")
]
Radii = Annotated[
    list[str] | None,
    typer.Option(
        "--radius",
        help="a radius to decide; repeat it, increasing; with --method, search: the largest",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="smoothing, a bounding method (phalanx list bounding), a complete one (phalanx list"
        " engines; --set seconds=60 an image), or auto: smoothing if a noise level is known, else"
        " bounds, cheapest first [smoothing]"
    ),
]
Eps = Annotated[str | None, typer.Option(help="radius of bounds in input units, such as 8/255")]
Agree = Annotated[
    int | None, typer.Option(help="K: ask the members behind the first K only where these differ")
]
Each = Annotated[bool, typer.Option("--each", help="every model on its own")]
Noise = Annotated[
    str | None,
    typer.Option(help="gaussian, laplace, uniform or generalised-gaussian [of training]"),
]
Norm = Annotated[str | None, typer.Option(help="l1, l2 or linf [l2; of bounds linf]")]
RunSeed = Annotated[int | None, typer.Option(help="run seed of all noise [0]")]
Batch = Annotated[str, typer.Option(help="rows of a forward pass, or auto")]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16 [fp32]")]
Arithmetic = Annotated[
    str | None,
    typer.Option(
        help="lattice: noise and sums are exact; real: roundings not counted; of bounds outward:"
        " they are [lattice; of bounds outward]"
    ),
]
Mismatch = Annotated[
    bool,
    typer.Option("--allow-sigma-mismatch", help="certify at another sigma or noise than trained"),
]
Plan = Annotated[bool, typer.Option("--plan", help="print cost and largest radius, run nothing")]
Budget = Annotated[str | None, typer.Option(help="best answer within 90s, 10m, 2h")]
Require = Annotated[
    list[str] | None, typer.Option(help="for example 'certified@0.5>=0.6'; exit 5 if unmet")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="any option of the run, name=value")
]
Config = Annotated[Path | None, typer.Option(help="YAML file of such options")]


@dataclass(frozen=True)
class Work:
    """How a request is carried out and answered: what decides no count; no folder, no run."""

    out: Path | None
    workers: int = 1
    budget: float | None = None
    conditions: tuple[str, ...] = ()
    json: bool = False


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="certify")(declaring(certify))


def certify(
    models: opt.Models,
    data: opt.Data = "digits",
    data_dir: opt.DataDir = None,
    method: Method = None,
    eps: Eps = None,
    sigma: Sigma = None,
    n: Samples = None,
    n0: Selection = None,
    alpha: Alpha = None,
    noise: Noise = None,
    norm: Norm = None,
    stop: Stop = None,
    radius: Radii = None,
    reducer: opt.Reducers = None,
    each: Each = False,
    consensus: Agree = None,
    out: opt.Out = None,
    limit: opt.Limit = None,
    every: opt.Every = 1,
    seed: RunSeed = None,
    device: opt.Device = "auto",
    workers: opt.Workers = 1,
    batch: Batch = "auto",
    precision: Precision = None,
    arithmetic: Arithmetic = None,
    allow_sigma_mismatch: Mismatch = False,
    plan: Plan = False,
    budget: Budget = None,
    require: Require = None,
    overrides: Overrides = None,
    config: Config = None,
    json: opt.Json = False,
    *,
    said: Declaration,
) -> None:
    """Certify models (several are an ensemble before smoothing) by smoothing or by bounds."""
    started = time.monotonic()
    work = work_of(out, data, workers, budget, require, plan, json)
    if method is not None or eps is not None:
        from phalanx.cli.bounding import by_bounds, request_by_bounds
        from phalanx.models.resolve import resolve_all

        limit_threads()
        members = resolve_all(models, said)
        if by_bounds(method or "auto", members, sigma):
            bounded = request_by_bounds(
                members,
                (data, data_dir, every, limit),
                radius=radius,
                eps=None if eps is None else opt.number(eps),
                plan=plan,
                refused={"n": n, "n0": n0, "alpha": alpha, "noise": noise, "stop": stop}
                | {"each": each, "consensus": consensus, "budget": budget}
                | {"precision": precision},
                reducer=reducer,
                method=method or "auto",
                norm=norm or "linf",
                arithmetic=arithmetic,
                options=opt.merged(config, {}, overrides),
                seed=seed or 0,
            )
            execute_bounds(bounded, work)
            return
        if eps is not None:
            raise ParameterError(
                "--eps with smoothing", why="it finds a radius for every image",
                repair="leave --eps out, or --method crown",
            )  # fmt: skip
    flags = {
        **{"sigma": sigma, "n": n, "n0": n0, "alpha": alpha, "seed": seed, "batch": batch},
        **{"noise": noise, "norm": norm, "stop": stop, "precision": precision},
        "arithmetic": arithmetic,
        "radii": None if radius is None else [opt.number(text) for text in radius],
    }
    request = _request(
        models,
        said,
        load_data=(data, data_dir, every, limit),
        options=opt.merged(config, flags, overrides),
        reducer_names=reducer,
        each=each,
        consensus=consensus,
        allow_sigma_mismatch=allow_sigma_mismatch,
        device=device,
    )
    if work.out is None:
        _plan(_settled(request, out, work.budget, started), json)
    else:
        execute(_settled(request, work.out, work.budget, started), work, work.out, started)


def work_of(
    out: Path | None,
    data: str,
    workers: int,
    budget: str | None,
    require: list[str] | None,
    plan: bool,
    json: bool,
) -> Work:
    """How a request is to be carried out, refused now rather than hours later."""
    from phalanx.evaluation.plan import seconds_of
    from phalanx.runs.provenance import new_run_folder
    from phalanx.runs.require import parse
    from phalanx.runtime.executors import check_workers

    check_workers(workers)
    for condition in require or ():
        parse(condition)
    seconds = None if budget is None else seconds_of(budget)
    folder = None if plan else out or new_run_folder(f"certify-{Path(data).stem}")
    return Work(folder, workers, seconds, tuple(require or ()), json)


def _request(
    models: list[str],
    said: Declaration,
    *,
    load_data: tuple[str, Path | None, int, int | None],
    options: dict[str, Any],
    **choices: Any,
) -> Request:
    from phalanx.data.locate import load
    from phalanx.evaluation.request import request_of
    from phalanx.models.resolve import resolve_all

    limit_threads()
    name, folder, every, limit = load_data
    members, dataset = resolve_all(models, said), load(name, folder)
    indices = dataset.select(every=every, limit=limit)
    return request_of(members, dataset, options, indices=indices, **choices)


def execute(request: Request, work: Work, out: Path, started: float) -> None:
    """Run a settled request, here or in several processes, and answer."""
    from phalanx.evaluation.request import open_run
    from phalanx.runtime.executors import is_worker

    request, store = open_run(request, out, command=command_line())
    with store:
        if work.budget is not None:
            store.set_meta("asked", {"images": len(request.indices), "seconds": work.budget})
        sweep(request, store, work.workers, _seconds_left(work.budget, started))
        if not is_worker():
            report(store, work)


def execute_bounds(request: BoundRequest, work: Work) -> None:
    """Run a request of bounds, here or in several processes, and answer."""
    from phalanx.evaluation.bounding import BoundSweep, open_bound_run
    from phalanx.runtime.executors import is_worker, start_workers

    with open_bound_run(request, work.out, command=command_line()) as store:
        if work.workers > 1 and not is_worker():
            arguments = worker_arguments(sys.argv[1:], store)
            for process in start_workers(arguments, work.workers, None):
                process.wait()
        # Whatever they left is done here; records are the same whoever makes them.
        with images_bar("certify") as bar:
            BoundSweep(request, store, bar).run()
        if not is_worker():
            report(store, work)


def sweep(
    request: Request, store: RunStore, workers: int = 1, seconds: float | None = None
) -> None:
    """Certify a request's images here, or in several processes that share the store."""
    from phalanx.cli.progress import certify_progress, watch
    from phalanx.evaluation.certify import Sweep
    from phalanx.runtime.executors import is_worker, start_workers

    if workers > 1 and not is_worker():
        arguments = worker_arguments(sys.argv[1:], store)
        watch(request, store, start_workers(arguments, workers, seconds), timed=seconds is not None)
        return
    deadline = None if seconds is None else time.monotonic() + seconds
    with certify_progress(request, store) as progress:
        Sweep(request, store, progress, deadline).run()


def report(store: RunStore, work: Work) -> None:
    """Print the answer, what is wrong with it, and last of all where the run is."""
    from phalanx.reporting.tables import summary_table
    from phalanx.runs.query import run_json

    if work.json:
        answer_json(run_json(store))
    else:
        answer(summary_table(store).text())
    problem = _problem(store, work.conditions)
    if problem is not None:
        log(f"error: {problem}")
    log(str(store.folder))
    if problem is not None:
        raise typer.Exit(problem.exit_code)


def _problem(store: RunStore, conditions: tuple[str, ...]) -> PhalanxError | None:
    from phalanx.runs.query import summarise
    from phalanx.runs.require import check

    try:
        for condition in conditions:
            check(summarise(store), condition)
    except (RequirementUnmet, ParameterError) as unmet:
        return unmet
    errors = sum(summarise(store, record.name).errors for record in store.manifest.classifiers)
    if not errors:
        return None
    return SampleErrors(
        f"{errors} certificates ended in an error and count as not certified",
        repair=f"phalanx runs explain {store.folder} IMAGE",
    )


def _settled(request: Request, out: Path | None, seconds: float | None, started: float) -> Request:
    """The request with everything decided, the number of samples by a budget if there is one."""
    from phalanx.evaluation.plan import fit_budget, measured_rate, spread
    from phalanx.evaluation.request import settle

    if seconds is None:
        return settle(request, out)
    request = replace(request, indices=spread(request.indices), open=(*request.open, "n"))
    known = out is not None and (out / "run.json").exists()
    request = settle(request, out)
    if known:
        return request
    fitted = fit_budget(request, measured_rate(request), _seconds_left(seconds, started) or 0.0)
    log(f"n = {fitted.config.n:,} to fit the budget, fixed before the first sample")
    return fitted


def _seconds_left(budget: float | None, started: float) -> float | None:
    from phalanx.runtime.executors import seconds_for_worker

    given = seconds_for_worker()
    if given is not None or budget is None:
        return given
    return max(budget - (time.monotonic() - started), 0.0)


def _plan(request: Request, json: bool) -> None:
    from phalanx.evaluation.plan import measured_rate, plan

    found = plan(request, measured_rate(request))
    if json:
        answer_json(found.as_dict())
    else:
        answer("\n".join(found.lines()))


def worker_arguments(arguments: list[str], store: RunStore) -> list[str]:
    """The same command line, told where the run is if it was not."""
    told = any(word == "--out" or word.startswith("--out=") for word in arguments)
    return arguments if told else [*arguments, "--out", str(store.folder)]


def limit_threads() -> None:
    """Keep to the share of the machine a worker was given."""
    import torch

    from phalanx.runtime.executors import threads_for_worker

    threads = threads_for_worker()
    if threads is not None:
        torch.set_num_threads(threads)


def command_line() -> str:
    """The command as it would be typed again."""
    return shlex.join(["phalanx", *sys.argv[1:]])
