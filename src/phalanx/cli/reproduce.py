"""``phalanx reproduce``: a published table, from data to figures beside the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phalanx.cli import options as opt
from phalanx.cli.console import answer, answer_json, log

if TYPE_CHECKING:
    from phalanx.studies.steps import Setting


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
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="epochs, pretrain_epochs, budget, images or n of the scale"),
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
    from phalanx.studies.steps import Setting, chosen, scale_of
    from phalanx.studies.study import load_study

    levels = None if sigma is None else tuple(opt.number(text) for text in sigma)
    asked = chosen(load_study(study), levels, method)
    setting = Setting(
        study=asked,
        scale=scale_of(asked, scale, change or ()),
        out=out or Path("runs") / f"{study}-{scale}",
        data_dir=data_dir,
        seeds=range(seeds),
        precision=precision,
        device=("--device", device),
        workers=workers,
    )
    if plan:
        _plan(setting, json=json)
        return
    if not table_only:
        from phalanx.studies.carry_out import carry_out

        carry_out(setting, log, jobs=jobs)
    _answer(setting, json=json)


def _plan(setting: Setting, *, json: bool) -> None:
    from phalanx.studies.steps import steps

    todo = steps(setting)
    if json:
        answer_json({"steps": [{"says": s.says, "words": s.words, "done": s.done()} for s in todo]})
        return
    for step in todo:
        answer(f"{'# done: ' if step.done() else ''}{step.command}")


def _answer(setting: Setting, *, json: bool) -> None:
    from phalanx.studies.carry_out import RESULT, keep

    values, texts = _audited(setting) if setting.study.audit else _certified(setting)
    keep(setting, values)
    if json:
        answer_json(values)
    else:
        answer("\n\n".join(texts) or "nothing is finished yet")
    log(str(setting.out / RESULT))


def _certified(setting: Setting) -> tuple[dict[str, Any], list[str]]:
    from phalanx.studies.carry_out import result
    from phalanx.studies.results import envelopes, rows
    from phalanx.studies.tables import sources, tables

    found = rows(setting)
    best = envelopes(setting, found)
    texts = [table.text() for table in tables(setting, found, best)]
    texts += ["\n".join(sources(found))] if sources(found) else []
    parts = {"rows": [row.as_json(setting.study.radii) for row in found]}
    return result(setting, parts | {"envelopes": [one.as_json() for one in best]}), texts


def _audited(setting: Setting) -> tuple[dict[str, Any], list[str]]:
    from phalanx.studies.audits import audit_rows, audit_table
    from phalanx.studies.carry_out import result

    found = audit_rows(setting)
    texts = [audit_table(setting, found).text()] if found else []
    return result(setting, {"rows": [row.as_json() for row in found]}), texts
