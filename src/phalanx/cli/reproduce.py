"""``phalanx reproduce``: a published table, from data to figures beside the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phalanx.cli import options as opt
from phalanx.cli.console import answer, answer_json, log
from phalanx.errors import ParameterError

if TYPE_CHECKING:
    from phalanx.studies.carry_out import Undertaking


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="reproduce")(reproduce)


def reproduce(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="one of: phalanx list studies")],
    *,
    scale: Annotated[
        str, typer.Option(help="smoke: it runs; small: one machine; full: as published")
    ] = "small",
    seeds: Annotated[int, typer.Option(min=1, help="independent trainings of everything")] = 1,
    data_dir: opt.DataDir = None,
    out: opt.Out = None,
    precision: Annotated[str, typer.Option(help="of certification: fp32 or bf16")] = "fp32",
    device: opt.Device = "auto",
    workers: Annotated[
        int | None, typer.Option(help="processes that share a training or a certification")
    ] = None,
    sigma: Annotated[
        list[str] | None, typer.Option(help="only this noise level; repeat it")
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="only this method; repeat it")] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="of a grid: only this network; repeat it")
    ] = None,
    training: Annotated[
        list[str] | None, typer.Option(help="of a grid: only this training; repeat it")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="epochs, images, n, ... of the scale: --set images=100"),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="commands at a time")] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="print the commands, run nothing")] = False,
    table_only: Annotated[
        bool, typer.Option("--table-only", help="show what is there, run nothing")
    ] = False,
    json: opt.Json = False,
) -> None:
    """Train and certify what a published table needs, and show it beside ours.

    Every step is a command of its own; a repeated call goes on where one stopped.
    """
    from phalanx.studies.grids.grid import grid_names

    place = out or Path("runs") / f"{study}-{scale}"
    if study in grid_names():
        _refuse({"--sigma": sigma, "--seeds": seeds > 1}, study, "grid")
        parts = (network or (), training or (), method or ())
        asked = _grid(study, (scale, change or ()), place, data_dir, parts, (device, workers))
    else:
        _refuse({"--network": network, "--training": training}, study, "study")
        levels = None if sigma is None else tuple(opt.number(text) for text in sigma)
        asked = _study(
            study, (scale, change or ()), place, data_dir, (levels, method), (device, workers),
            seeds=range(seeds), precision=precision,
        )  # fmt: skip
    if plan:
        _plan(asked, json=json)
        return
    if not table_only:
        from phalanx.cli.forks import run_command
        from phalanx.studies.carry_out import carry_out

        carry_out(asked.steps(), log, run_command, jobs)
    _answer(asked, json=json)


def _refuse(given: dict[str, object], name: str, noun: str) -> None:
    for option, value in given.items():
        if value:
            raise ParameterError(f"{option} with {name}", why=f"it is a {noun}, which has none")


How = tuple[str, Sequence[str]]
"""The name of a scale, and what is changed in it."""


def _grid(
    name: str, how: How, out: Path, data_dir: Path | None,
    parts: tuple[Sequence[str], Sequence[str], Sequence[str]], machine: tuple[str, int | None],
) -> Undertaking:  # fmt: skip
    from phalanx.studies.grids.grid import grid_scale, load_grid, part_of
    from phalanx.studies.grids.steps import GridSetting
    from phalanx.studies.undertakings import of_grid

    whole = load_grid(name)
    scale = grid_scale(whole, *how)
    networks = parts[0] or scale.networks
    grid = part_of(whole, networks, *parts[1:])
    device, workers = machine
    words = ("--device", device, *(() if workers is None else ("--workers", str(workers))))
    return of_grid(GridSetting(grid, scale, out, data_dir, words=words))


def _study(
    name: str, how: How, out: Path, data_dir: Path | None,
    parts: tuple[Sequence[float] | None, Sequence[str] | None], machine: tuple[str, int | None],
    *, seeds: Sequence[int], precision: str,
) -> Undertaking:  # fmt: skip
    from phalanx.studies.steps import Setting, chosen, scale_of
    from phalanx.studies.study import load_study
    from phalanx.studies.undertakings import of_study

    study = chosen(load_study(name), *parts)
    scale = scale_of(study, *how)
    device, workers = ("--device", machine[0]), machine[1]
    return of_study(Setting(study, scale, out, data_dir, seeds, precision, device, workers))


def _plan(asked: Undertaking, *, json: bool) -> None:
    todo = asked.steps()
    if json:
        answer_json({"steps": [{"says": s.says, "words": s.words, "done": s.done()} for s in todo]})
        return
    for step in todo:
        answer(f"{'# done: ' if step.done() else ''}{step.command}")


def _answer(asked: Undertaking, *, json: bool) -> None:
    from phalanx.studies.carry_out import RESULT

    values, texts = asked.told()
    if json:
        answer_json(values)
    else:
        answer("\n\n".join(texts) or "nothing is finished yet")
    log(str(asked.out / RESULT))
