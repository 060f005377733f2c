"""What is seen of a training: bars on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from phalanx.cli.console import err_console, log
from phalanx.evaluation.plan import duration
from phalanx.training.events import EpochEnd, Event, Members, Saved, Step

LINE_SECONDS = 3.0


class TrainingView:
    """A `phalanx.training.events.Watch`: one bar for each group of members in training."""

    def __init__(self) -> None:
        self._plain = not err_console().is_terminal
        self._tasks: dict[Members, TaskID] = {}
        self._said: dict[Members, float] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=err_console(),
            transient=True,
            disable=self._plain,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        name = f"member {', '.join(map(str, event.members))}"
        if isinstance(event, Step):
            figures = f"loss {event.loss:.4f}  training accuracy {event.accuracy:.4f}"
            self._progress.update(
                self._task(event.members, name),
                completed=event.done,
                total=event.total,
                figures=figures,
            )
        elif isinstance(event, EpochEnd) and self._plain and self._due(event):
            log(f"{name}  {self._line(event)}")
        elif isinstance(event, Saved) and event.members in self._tasks:
            self._progress.remove_task(self._tasks.pop(event.members))

    def _task(self, members: Members, name: str) -> TaskID:
        if members not in self._tasks:
            self._tasks[members] = self._progress.add_task(name, total=None, figures="")
        return self._tasks[members]

    def _due(self, event: EpochEnd) -> bool:
        """Whether an epoch is worth a line: short ones would flood a log file."""
        now, last = time.monotonic(), self._said.get(event.members, -LINE_SECONDS)
        ends = event.row["epoch"] == event.epochs
        if event.replayed or not (ends or now - last >= LINE_SECONDS):
            return False
        self._said[event.members] = now
        return True

    def _line(self, event: EpochEnd) -> str:
        row = event.row
        line = (
            f"epoch {row['epoch']}/{event.epochs}  loss {row['loss']:.4f}"
            f"  training accuracy {row['noisy_accuracy']:.4f}  {row['seconds']:.2f} s"
        )
        left = event.epochs - row["epoch"]
        return f"{line}  left {duration(left * row['seconds'])}" if left else line
