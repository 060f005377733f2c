"""``phalanx data fetch|list|show``: bring data sets here and see what they are."""

from __future__ import annotations

from typing import Annotated

import typer

from phalanx.cli.console import answer, answer_columns, answer_json, err_console, log
from phalanx.cli.options import DataDir, Json

Name = Annotated[str, typer.Argument(metavar="NAME", help="what 'phalanx data list' shows")]
Base = Annotated[
    str | None,
    typer.Option("--from", metavar="URL", help="address to download from instead of the mirrors"),
]
Split = Annotated[str, typer.Option("--split", help="train or test")]


def register(app: typer.Typer) -> None:
    """Add the ``data`` group."""
    group = typer.Typer(help="Download data sets and see what they are.", no_args_is_help=True)
    group.command("fetch")(fetch)
    group.command("list")(list_)
    group.command("show")(show)
    app.add_typer(group, name="data")


def fetch(name: Name, data_dir: DataDir = None, base: Base = None, json: Json = False) -> None:
    """Download a published data set, verified by its checksums; continues where it stopped."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TransferSpeedColumn

    from phalanx.data.fetch import fetch as fetch_files

    console = err_console()
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def advance(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=total)
            bar.update(tasks[file], completed=done)

        paths = fetch_files(name, data_dir, base=base, progress=advance)
    if json:
        answer_json({"name": name, "files": [str(path) for path in paths]})
        return
    for path in paths:
        answer(str(path))
    log(f"ready: --data {name}" + (f" --data-dir {data_dir}" if data_dir else ""))


def list_(json: Json = False) -> None:
    """The data sets and formats that can be read."""
    from phalanx.cli.listing import parts_of
    from phalanx.data.sources import SOURCES

    parts = parts_of("data")
    if json:
        answer_json({"data": [{"name": n, "summary": s, "fetch": n in SOURCES} for n, s in parts]})
        return
    answer_columns([(n, "phalanx data fetch" if n in SOURCES else "", s) for n, s in parts])


def show(name: Name, data_dir: DataDir = None, split: Split = "test", json: Json = False) -> None:
    """The card of a data set: shape, classes, range, checksums, source."""
    from phalanx.data.locate import load

    card = load(name, data_dir, split).card.as_dict()
    if json:
        answer_json(card)
        return
    answer_columns([(key.replace("_", " "), _text(value)) for key, value in card.items()])


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "-"
    return "-" if value in (None, "") else str(value)
