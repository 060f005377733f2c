"""``phalanx attack``: what is left of accuracy when somebody looks for mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phalanx.cli import options as opt
from phalanx.cli.certify import command_line, limit_threads
from phalanx.cli.console import answer, answer_json, images_bar, log
from phalanx.cli.declaring import Declaration, declaring
from phalanx.errors import ParameterError, RunError, SampleErrors

if TYPE_CHECKING:
    from phalanx.attacks.defences import Settings
    from phalanx.data.dataset import Dataset
    from phalanx.models.model import Model
    from phalanx.runs.store import RunStore

Name = Annotated[str, typer.Option("--attack", help="see phalanx list attacks")]
Norm = Annotated[str, typer.Option("--norm", help="linf, l2 or l1")]
Eps = Annotated[str | None, typer.Option("--eps", help="radius in input units, such as 8/255")]
Steps = Annotated[int | None, typer.Option("--steps", help="gradient steps of the attack")]
Restarts = Annotated[int | None, typer.Option("--restarts", help="starts of the attack")]
Aim = Annotated[
    str | None,
    typer.Option("--objective", help="ce, mean-ce, margin, dlr, or file.py:function"),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="any option of the attack, name=value")
]
Reducer = Annotated[
    str,
    typer.Option("--reducer", help="of several models; random-member draws one for every answer"),
]
Smooth = Annotated[
    str | None, typer.Option("--sigma", help="attack it under Gaussian noise of this level")
]
Draws = Annotated[int, typer.Option("--draws", help="of a random classifier, for a gradient")]
Judged = Annotated[int, typer.Option("--judged", help="of a random classifier, for an answer")]
Forced = Annotated[
    bool, typer.Option("--force-random", help="the model draws from torch's own generator")
]
ScoresOnly = Annotated[
    bool, typer.Option("--scores-only", help="ask for no gradients (square works)")
]
Batch = Annotated[int, typer.Option("--batch", help="points attacked together")]
Rows = Annotated[int | None, typer.Option("--rows", help="inputs of a pass [by device]")]
Save = Annotated[Path | None, typer.Option("--save", help="write adversarial inputs to adv.npz")]
Replay = Annotated[
    Path | None, typer.Option("--replay", help="score adversarial inputs of adv.npz instead")
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="attack")(declaring(attack))


def attack(
    models: opt.Models,
    name: Name = "autoattack",
    norm: Norm = "linf",
    eps: Eps = None,
    data: opt.Data = "digits",
    data_dir: opt.DataDir = None,
    limit: opt.Limit = None,
    every: opt.Every = 1,
    steps: Steps = None,
    restarts: Restarts = None,
    objective: Aim = None,
    overrides: Overrides = None,
    reducer: Reducer = "mean",
    sigma: Smooth = None,
    draws: Draws = 16,
    judged: Judged = 100,
    force_random: Forced = False,
    scores_only: ScoresOnly = False,
    save: Save = None,
    replay: Replay = None,
    out: opt.Out = None,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    batch: Batch = 256,
    rows: Rows = None,
    json: opt.Json = False,
    *,
    said: Declaration,
) -> None:
    """Attack models (several are an ensemble); every success is run again before it counts."""
    from phalanx.attacks.defences import Settings
    from phalanx.data.locate import load
    from phalanx.models.resolve import resolve_all

    limit_threads()
    level = None if sigma is None else opt.number(sigma)
    settings = Settings(rows, draws, judged, level, not scores_only, force_random)
    members = resolve_all(models, said)
    if replay is not None:
        _replay(members, replay, settings, reducer=reducer, device=device, json=json)
        return
    if eps is None:
        raise ParameterError("the radius is not said", repair="--eps 8/255")
    dataset = load(data, data_dir)
    flags = {"steps": steps, "restarts": restarts, "objective": objective}
    _run(
        members,
        dataset,
        {
            "attack": name,
            "norm": norm,
            "eps": opt.number(eps),
            "options": opt.merged(None, flags, overrides),
            "settings": settings,
            "reducer": reducer,
            "indices": dataset.select(every=every, limit=limit),
            "seed": seed,
            "batch": batch,
            "device": device,
        },
        out=out,
        save=save,
        json=json,
    )


def _run(
    members: list[Model],
    dataset: Dataset,
    asked: dict[str, Any],
    *,
    out: Path | None,
    save: Path | None,
    json: bool,
) -> None:
    from phalanx.evaluation.attack import AttackSweep, open_attack_run, request_attack
    from phalanx.evaluation.replay import save_adversaries
    from phalanx.runs.provenance import new_run_folder

    request = request_attack(members, dataset, **asked)
    folder = out or new_run_folder(f"attack-{asked['attack']}")
    with open_attack_run(request, folder, command=command_line()) as store:
        with images_bar("attack") as bar:
            AttackSweep(request, store, bar).run()
        if save is not None:
            save_adversaries(store, dataset, save)
        report(store, json=json)


def report(store: RunStore, *, json: bool) -> None:
    """Print the answer, what is wrong with it, and last of all where the run is."""
    from phalanx.reporting.attacked import attack_table
    from phalanx.runs.attacked import summarise_attack

    found = summarise_attack(store)
    if json:
        answer_json(found.as_json())
    else:
        answer(attack_table(store).text())
    problem = None
    if found.errors:
        problem = SampleErrors(f"{found.errors} points ended in an error and count as not robust")
        log(f"error: {problem}")
    log(str(store.folder))
    if problem is not None:
        raise typer.Exit(problem.exit_code)


def _replay(
    members: list[Model],
    path: Path,
    settings: Settings,
    *,
    reducer: str,
    device: str,
    json: bool,
) -> None:
    from phalanx.evaluation.replay import load_adversaries, replayed

    found = replayed(members, load_adversaries(path), settings, reducer=reducer, device=device)
    if json:
        answer_json(found.as_json())
        return
    if not found.points:
        raise RunError(f"{path} holds no adversarial inputs")
    answer("\n".join(found.lines()))
