"""Carrying a study out: one command after another, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from phalanx.errors import Interrupted, RunError
from phalanx.runs.database import typed_errors
from phalanx.runs.manifest import write_atomically
from phalanx.studies.steps import Setting, Step, steps

RESULT = "study.json"


Run = Callable[[Sequence[str]], int]
"""Runs ``phalanx`` with these words; the exit code."""


def in_a_process(words: Sequence[str]) -> int:
    """`Run` in a process of its own: what it held is given back, and a crash ends it alone."""
    command = [sys.executable, "-m", "phalanx.cli.main", *words]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode


def carry_out(
    setting: Setting, says: Callable[[str], None], run: Run = in_a_process, jobs: int = 1
) -> None:
    """Run every command of a study that is not done; a repeated call goes on where one stopped.

    Args:
        setting: see `phalanx.studies.steps.Setting`.
        says: told of every command before it runs.
        run: how a command is run.
        jobs: commands at a time, each after those it needs.

    Raises:
        RunError: a command failed; those beside it are finished, and what they made is kept.
        Interrupted: Ctrl-C.
    """
    everything = steps(setting)
    waiting = {step: number for number, step in enumerate(everything, 1) if not step.done()}

    def carry(step: Step, number: int) -> None:
        says(f"[{number}/{len(everything)}] {step.says}")
        step.before()
        _require(run(step.words), step)

    running: dict[Future[None], Step] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            open_ = {step.makes for step in (*waiting, *running.values())}
            ready = [step for step in waiting if open_.isdisjoint(step.after)]
            for step in ready[: jobs - len(running)]:
                running[pool.submit(carry, step, waiting.pop(step))] = step
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                running.pop(future)
                future.result()


def _require(code: int, step: Step) -> None:
    if code == Interrupted.exit_code:
        raise Interrupted("the study stopped", repair="the same command continues")
    if code:
        raise RunError(
            f"{step.says} ended with exit code {code}",
            why="its own message stands above; what was made is kept",
            repair=step.command,
        )


def result(setting: Setting, found: Mapping[str, Any]) -> dict[str, Any]:
    """What was found, as JSON values, with what was asked for."""
    return {
        "study": setting.study.name,
        "scale": setting.scale.model_dump(),
        "seeds": list(setting.seeds),
        **found,
    }


def keep(setting: Setting, values: dict[str, Any]) -> None:
    """Write a `result` to ``study.json`` in the study's folder."""
    with typed_errors(setting.out):
        setting.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=1, allow_nan=False) + "\n"
    write_atomically(setting.out / RESULT, text.encode())
