"""``phalanx vnncomp``: the scripts of the verification competition, and what they call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from phalanx.cli.console import answer, log
from phalanx.errors import ParameterError
from phalanx.runs.files import write_atomically

app = typer.Typer(no_args_is_help=True, help="The interface of VNN-COMP: scripts, prepare, run.")

WORDS = ("sat", "unsat", "unknown", "timeout", "error")
"""First lines of a results file."""
OVERRUN = 5.0
"""Seconds after which a process that does not end is ended."""

Protocol = Annotated[str, typer.Argument(metavar="v1", help="version of the interface")]
Category = Annotated[str, typer.Argument(help="name of the benchmark")]
Net = Annotated[Path, typer.Argument(metavar="ONNX", help="network")]
Query = Annotated[Path, typer.Argument(metavar="VNNLIB", help="property")]
Results = Annotated[Path, typer.Argument(help="file to write the answer to")]
Seconds = Annotated[float, typer.Argument(metavar="TIMEOUT", help="seconds")]
Folder = Annotated[Path, typer.Argument(help="where the scripts are written")]

SCRIPTS = {
    "install_tool.sh": "pip install 'phalanx[onnx,milp,smt]'",
    "prepare_instance.sh": 'exec phalanx vnncomp prepare "$@"',
    "run_instance.sh": 'exec phalanx vnncomp run "$@"',
}


def register(root: typer.Typer) -> None:
    """Add the commands to the application."""
    root.add_typer(app, name="vnncomp")


@app.command()
def scripts(folder: Folder) -> None:
    """Write install_tool.sh, prepare_instance.sh and run_instance.sh."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, line in SCRIPTS.items():
        path = folder / name
        write_atomically(path, f"#!/usr/bin/env bash\nset -eu\n{line}\n".encode())
        path.chmod(0o755)
        answer(str(path))


@app.command()
def prepare(protocol: Protocol, category: Category, net: Net, query: Query) -> None:
    """See that network and property can be read and fit; nothing is kept."""
    from phalanx.specs.vnnlib import read
    from phalanx.verify.network import network_of

    _check(protocol)
    network_of(net).check(read(query))
    log(f"{category}: ready")


@app.command()
def run(
    protocol: Protocol,
    category: Category,
    net: Net,
    query: Query,
    results: Results,
    timeout: Seconds,
) -> None:
    """Verify an instance and write the results file; the exit status is 0 whatever it says."""
    _check(protocol)
    words = [sys.executable, "-m", "phalanx.cli.main", "verify", str(net), str(query)]
    words += ["--timeout", str(timeout), "--idealised"]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=timeout + OVERRUN, check=False
        )
        found = _result(done.stdout) if done.returncode == 0 else "error\n"
        log(done.stderr.strip())
    except subprocess.TimeoutExpired:
        found = "timeout\n"
    write_atomically(results, found.encode())
    log(f"{category}: {found.partition(chr(10))[0]}")


def _result(text: str) -> str:
    """The answer in the words of the results file; anything else is an error."""
    first, line, rest = text.partition("\n")
    first = {"timed-out": "timeout"}.get(first.strip(), first.strip())
    return f"{first}{line}{rest}" if first in WORDS else "error\n"


def _check(protocol: str) -> None:
    if protocol != "v1":
        raise ParameterError(
            f"version {protocol!r} of the competition's interface", repair="v1 is spoken here"
        )
