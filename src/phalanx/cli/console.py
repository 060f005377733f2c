"""Answers go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 1000

_err = Console(stderr=True, highlight=False, soft_wrap=True)
_out = Console(highlight=False, soft_wrap=True)


def log(message: str) -> None:
    """One line for the person watching, on stderr."""
    print(message, file=sys.stderr, flush=True)


def answer(text: str) -> None:
    """A plain answer on stdout."""
    print(text, flush=True)


def as_json(value: Any) -> str:
    """A JSON object; NaN is refused, absent numbers are null."""
    return json.dumps(value, indent=1, allow_nan=False, default=str)


def answer_json(value: Any) -> None:
    """One JSON object on stdout, see `as_json`."""
    print(as_json(value), flush=True)


def answer_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout: first column left, the others right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # a pipe has no width: nothing may be cut off there
    wide = Console(width=PIPE_WIDTH, highlight=False, soft_wrap=True)
    (_out if _out.is_terminal else wide).print(table)


def err_console() -> Console:
    """The stderr console, for progress bars (they vanish when it is no terminal)."""
    return _err


@contextmanager
def images_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of images on a terminal, moved by ``(done, images)``; nothing elsewhere."""
    from rich.progress import Progress

    console = err_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name)
        yield lambda done, images: bar.update(task, completed=done, total=images)


def answer_columns(rows: Sequence[tuple[str, ...]]) -> None:
    """Rows of text on stdout, padded to columns; nothing is cut, the last one may be long."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        answer("  ".join(cells).rstrip())
