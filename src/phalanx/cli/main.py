"""The ``phalanx`` command: what the files named in `COMMANDS` add to it by ``register(app)``."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module

import typer

from phalanx import __version__
from phalanx.cli.console import log
from phalanx.errors import Interrupted, PhalanxError
from phalanx.runtime.memory import keep_freed_pages

SUMMARY = "Train, certify and explain neural networks and ensembles, and say what is proven."
COMMANDS = (
    "demo",
    "data",
    "train",
    "certify",
    "attack",
    "verify",
    "supports",
    "vnncomp",
    "audit",
    "diagnose",
    "footprint",
    "weigh",
    "doctor",
    "reproduce",
    "runs",
    "listing",
)


def build() -> typer.Typer:
    """The whole command tree; importing it imports no torch."""
    app = typer.Typer(
        name="phalanx",
        help=SUMMARY,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for command in COMMANDS:
        import_module(f"phalanx.cli.{command}").register(app)
    return app


def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run a command; every `PhalanxError` becomes its message and its exit code."""
    keep_freed_pages()
    try:
        build()()
    except SystemExit as stop:  # typer's: 2 for usage, 130 for Ctrl-C
        if stop.code == Interrupted.exit_code:
            log("interrupted: the same command continues where it stopped")
        raise
    except PhalanxError as error:
        log(f"error: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception:  # noqa: BLE001 - the last line: whatever is not typed is our bug
        traceback.print_exc()
        log("internal error: this is a bug in phalanx, please report the lines above")
        sys.exit(1)


if __name__ == "__main__":
    main()
