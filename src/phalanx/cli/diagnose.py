"""``phalanx diagnose``: are the members different enough to be worth their cost?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from phalanx.cli import options as opt
from phalanx.cli.console import answer, answer_json, err_console, log


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="diagnose")(diagnose)


def diagnose(
    models: opt.Models,
    data: opt.Data = "digits",
    data_dir: opt.DataDir = None,
    sigma: Annotated[
        str | None, typer.Option(help="noise level in input units; default: the cards'")
    ] = None,
    samples: Annotated[int, typer.Option(help="noise draws per image, at least 100")] = 1000,
    alpha: Annotated[float, typer.Option(help="failure probability of a radius")] = 0.001,
    limit: opt.Limit = 100,
    every: opt.Every = 1,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    allow_sigma_mismatch: Annotated[
        bool, typer.Option("--allow-sigma-mismatch", help="diagnose at another sigma")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="run folder whose report shall show this, or a folder for the JSON"),
    ] = None,
    json: opt.Json = False,
    input_range: opt.InputRange = None,
    mean: opt.Mean = None,
    std: opt.Std = None,
    classes: opt.Classes = None,
    normalised_inside: opt.NormalisedInside = False,
    weights: opt.Weights = None,
) -> None:
    """Correlation of an ensemble's members under noise, and the gain it predicts."""
    from phalanx.data.locate import load
    from phalanx.diagnostics.attach import keep
    from phalanx.diagnostics.measure import report
    from phalanx.ensembles.ensemble import Ensemble
    from phalanx.models.resolve import resolve_all
    from phalanx.runtime.device import resolve_device
    from phalanx.smoothing.level import sigma_of

    said = opt.declaration(input_range, mean, std, classes, normalised_inside, weights)
    members = resolve_all(models, said)
    level = sigma_of(
        members,
        None if sigma is None else opt.number(sigma),
        allow_mismatch=allow_sigma_mismatch,
    )
    dataset = load(data, data_dir)
    indices = dataset.select(every=every, limit=limit)
    ensemble = Ensemble(members).to(resolve_device(device))
    with _progress() as advance:
        found = report(
            ensemble, dataset, indices, level, samples, seed=seed, alpha=alpha, progress=advance
        )
    if json:
        answer_json(found.as_dict())
    else:
        answer(found.table())
    if out is not None:
        log(str(keep(found, members, dataset.card.name, out)))


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar of images on a terminal; nothing elsewhere."""
    console = err_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("diagnose")
        yield lambda done, images: bar.update(task, completed=done, total=images)
