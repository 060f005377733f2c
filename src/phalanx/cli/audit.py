"""``phalanx audit``: what a random ensemble is worth against attacks that know it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phalanx.cli import options as opt
from phalanx.cli.console import answer, answer_json, images_bar, log
from phalanx.cli.declaring import Declaration, declaring

if TYPE_CHECKING:
    from phalanx.audit.collect import Trial
    from phalanx.audit.conduct import Settings
    from phalanx.audit.protocols import Protocol
    from phalanx.data.dataset import DataCard


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="audit")(declaring(audit))


def audit(
    models: opt.Models,
    data: opt.Data = "digits",
    data_dir: opt.DataDir = None,
    norm: Annotated[str, typer.Option(help="linf, l2 or l1")] = "linf",
    eps: Annotated[str, typer.Option(help="radius in input units, such as 8/255")] = "8/255",
    effort: Annotated[
        str, typer.Option(help="quick: minutes; standard: as attacks are published")
    ] = ("standard"),
    reducer: Annotated[str, typer.Option(help="under which the members are averaged")] = "softmax",
    probabilities: Annotated[
        str | None, typer.Option(help="of each member to be drawn, such as 1,1,2 [all equal]")
    ] = None,
    certified: Annotated[
        Path | None, typer.Option(help="run of certify --each: certified expected accuracy beside")
    ] = None,
    limit: opt.Limit = 1000,
    every: opt.Every = 1,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    out: opt.Out = None,
    json: opt.Json = False,
    *,
    said: Declaration,
) -> None:
    """Published-style accuracy of a random ensemble beside the worst that was found.

    Each member alone, one at random (its exact mean) and all of them averaged are attacked, and
    what is found against one is shown to all. The same command with the same --out continues.
    """
    from phalanx.audit.conduct import Settings as Asked
    from phalanx.audit.conduct import trial_of
    from phalanx.audit.protocols import effort_of
    from phalanx.data.locate import load
    from phalanx.models.resolve import resolve_all
    from phalanx.reporting.audit import text
    from phalanx.reporting.html import write_report
    from phalanx.runs.store import RunStore

    settings = Asked(
        norm, opt.number(eps), effort_of(effort), reducer, opt.numbers(probabilities), seed
    )
    dataset = load(data, data_dir)
    trial = trial_of(
        resolve_all(models, said),
        dataset,
        dataset.select(every=every, limit=limit),
        settings,
        device,
    )
    beside = None if certified is None else _certified(certified)
    folder = out or Path("runs") / f"audit-{data}-{norm}-{settings.eps:.4g}-seed{seed}"
    found = _conducted(trial, settings, dataset.card, folder, beside)
    if json:
        answer_json(found)
    else:
        answer(text(found))
    with RunStore.open(folder) as run:
        write_report(run)
    log(str(folder))


def _certified(folder: Path) -> dict[str, Any]:
    from phalanx.runs.expected import expected_accuracy
    from phalanx.runs.store import RunStore

    with RunStore.open(folder) as run:
        return expected_accuracy(run).as_json()


def _conducted(
    trial: Trial, settings: Settings, card: DataCard, folder: Path, beside: dict[str, Any] | None
) -> dict[str, Any]:
    """The result, with a bar of images over all attacks."""
    from phalanx.audit.conduct import conduct
    from phalanx.audit.protocols import suite
    from phalanx.cli.certify import command_line

    total = len(trial.x) * len(suite(len(trial.ensemble.models), settings.effort))
    done = 0
    with images_bar("audit") as advance:

        def says(protocol: Protocol, images: int) -> None:
            nonlocal done
            done += images
            advance(done, total)

        return conduct(
            trial, settings, card, folder, command=command_line(), beside=beside, says=says
        )
