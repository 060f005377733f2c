"""Carrying a study out: one command after another, each in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from phalanx.errors import Interrupted, RunError
from phalanx.runs.database import typed_errors
from phalanx.runs.manifest import write_atomically
from phalanx.studies.steps import Step

RESULT = "study.json"


Told = tuple[dict[str, Any], list[str]]
"""What was found, as JSON values and as texts."""


@dataclass(frozen=True)
class Undertaking:
    """A study or a grid, to be carried out and told of.

    Attributes:
        name, scale, seeds, out: what, how much of it, and where.
        steps: its commands.
        tell: what is finished.
    """

    name: str
    scale: BaseModel
    seeds: Sequence[int]
    out: Path
    steps: Callable[[], list[Step]]
    tell: Callable[[], Told]

    def told(self) -> Told:
        """What is finished, with what was asked for; the values are also kept in the folder."""
        found, texts = self.tell()
        values = {
            "study": self.name,
            "scale": self.scale.model_dump(),
            "seeds": list(self.seeds),
            **found,
        }
        with typed_errors(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(values, indent=1, allow_nan=False) + "\n"
        write_atomically(self.out / RESULT, text.encode())
        return values, texts


Run = Callable[[Sequence[str]], int]
"""Runs ``phalanx`` with these words; the exit code."""


def carry_out(
    everything: Sequence[Step],
    says: Callable[[str], None],
    run: Run,
    jobs: int = 1,
) -> None:
    """Run every command of a study that is not done; a repeated call goes on where one stopped.

    Args:
        everything: all of its commands, in an order in which each finds what it needs.
        says: told of every command before it runs.
        run: how a command is run.
        jobs: commands at a time, each after those it needs.

    Raises:
        RunError: a command failed; those beside it are finished, and what they made is kept.
        Interrupted: Ctrl-C.
    """
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
