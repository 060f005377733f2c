"""``phalanx footprint``: what an ensemble costs in every form it can be run in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from phalanx.cli import options as opt
from phalanx.cli.console import answer, answer_json, answer_table, images_bar
from phalanx.cli.declaring import Declaration, declaring
from phalanx.errors import ParameterError

if TYPE_CHECKING:
    from phalanx.diagnostics.footprint import Form

Batches = Annotated[
    list[int] | None, typer.Option("--batch", help="inputs of a timed pass [1 and 256]; repeat")
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="footprint")(declaring(footprint))


def footprint(
    models: opt.Models,
    data: Annotated[
        str | None, typer.Option("--data", help="images to measure on; default: random numbers")
    ] = None,
    data_dir: opt.DataDir = None,
    members: Annotated[
        int | None, typer.Option(help="members of a built-in name without weights [1]")
    ] = None,
    ps: Annotated[
        bool, typer.Option("--ps", help="also with generated convolutions (PS-RED), random weights")
    ] = False,
    drawn: Annotated[int, typer.Option(help="members of a random subset")] = 1,
    consensus: Annotated[int | None, typer.Option(help="K of K-consensus")] = None,
    batch: Batches = None,
    rounds: Annotated[int, typer.Option(help="rounds in which every form is timed")] = 5,
    seconds: Annotated[float, typer.Option(help="of each form in each round, about")] = 0.5,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    json: opt.Json = False,
    *,
    said: Declaration,
) -> None:
    """Parameters stored and resident, products, and measured seconds of each form."""
    import torch

    from phalanx.diagnostics.families import families, images
    from phalanx.diagnostics.footprint import Options
    from phalanx.diagnostics.footprint import footprint as measure
    from phalanx.runtime.device import describe_device, resolve_device

    place = resolve_device(device)
    options = Options(drawn, consensus, tuple(batch or (1, 256)), rounds, seconds, seed)
    found = families(models, said, members, ps=ps, seed=seed)
    for family in found.values():
        for member in family:
            member.to(place)
    first = next(iter(found.values()))
    if consensus is not None and data is None:
        raise ParameterError(
            "--consensus was asked for without images",
            why="how often members agree is a matter of the images",
            repair="--data NAME",
        )
    x = images(first[0], max(options.batches), data, data_dir, seed).to(place)
    with images_bar("footprint") as advance:
        forms = measure(found, x, options, progress=advance)
    where = describe_device(place)
    if json:
        answer_json(
            {
                "device": where,
                "torch": torch.__version__,
                "inputs": data or "random",
                "rounds": rounds,
                "forms": [form.as_json() for form in forms],
            }
        )
        return
    _say(forms, options.batches, f"{where}, {rounds} rounds, inputs: {data or 'random'}")


def _say(forms: list[Form], batches: tuple[int, ...], where: str) -> None:
    columns = ["form", "stored", "resident", "MMAC", "+ a pass", "asked"]
    for size in batches:
        columns += [f"p50 at {size}", "p95"]
    rows = []
    for form in forms:
        row = [
            form.name,
            f"{form.stored:,}",
            f"{form.resident:,}",
            f"{form.products / 1e6:,.1f}",
            f"{form.generation / 1e6:,.1f}" if form.generation else "-",
            f"{form.asked:.2f}",
        ]
        for size in batches:
            latency = form.seconds[size]
            row += [_milliseconds(latency.p50), _milliseconds(latency.p95)]
        rows.append(row)
    answer_table(where, columns, rows)
    answer("parameters; products of one input and of a pass; milliseconds of a pass")


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.2f}"
