"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from phalanx.cli.console import err_console, log
from phalanx.errors import Interrupted, PhalanxError
from phalanx.evaluation.plan import duration

if TYPE_CHECKING:
    from phalanx.evaluation.request import Request
    from phalanx.runs.store import RunStore

LINE_SECONDS = 30.0
POLL_SECONDS = 0.5


class _Shown:
    """How far a run is: call it with the images done so far and a word on the speed."""

    def __init__(self, bar: Progress, total: int, done: int) -> None:
        self._bar, self._total, self._before = bar, total, done
        self._task = bar.add_task("certify", total=total, completed=done, rate="")
        self._started = self._told = time.monotonic()

    def __call__(self, done: int, rate: str) -> None:
        self._bar.update(self._task, completed=done, rate=rate)
        now = time.monotonic()
        if err_console().is_terminal or now - self._told < LINE_SECONDS:
            return
        self._told = now
        line = f"{done} of {self._total} images, {rate}"
        if done > self._before:
            each = (now - self._started) / (done - self._before)
            line += f", left {duration(each * (self._total - done))}"
        log(line)


@contextmanager
def certify_progress(request: Request, store: RunStore) -> Iterator[Callable[[int, int], None]]:
    """A callback for `Sweep`: rows counted and images finished since the last call.

    A process that was started to share a run says nothing: whoever started it does (`watch`).
    """
    from phalanx.runtime.executors import is_worker

    if is_worker():
        yield lambda new_rows, new_images: None
        return
    started = time.monotonic()
    done, rows = len(store.finished() & set(request.indices)), 0
    with _bar() as bar:
        show = _Shown(bar, len(request.indices), done)

        def advance(new_rows: int, new_images: int) -> None:
            nonlocal rows, done
            rows += new_rows
            done += new_images
            show(done, f"{rows / max(time.monotonic() - started, 1e-9):,.0f} samples/s")

        yield advance


def watch(
    request: Request,
    store: RunStore,
    processes: Sequence[subprocess.Popen[bytes]],
    *,
    timed: bool = False,
) -> None:
    """Show the shared run's progress until all its processes end.

    Args:
        request: whose images are counted.
        store: the run they share.
        processes: from `start_workers`.
        timed: whether they may end before all images are answered.

    Raises:
        PhalanxError: images were left, with the exit code of the processes that failed if
            they agree on one; the run can be resumed.
    """
    from phalanx.runtime.executors import stop_workers

    wanted = set(request.indices)
    try:
        with _bar() as bar:
            show = _Shown(bar, len(wanted), len(store.finished() & wanted))
            while any(process.poll() is None for process in processes):
                show(len(store.finished() & wanted), f"{len(processes)} processes")
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        stop_workers(processes)
        raise Interrupted("stopped", repair="the same command continues") from None
    codes = {process.returncode for process in processes}
    left = len(wanted - store.finished())
    if left and not (timed and codes == {0}):
        error = PhalanxError(
            f"{left} images are left and the processes ended with exit codes"
            f" {', '.join(map(str, sorted(codes)))}",
            repair="mend what they said, then run the same command; nothing counted is lost",
        )
        failed = codes - {0}
        if len(failed) == 1 and min(failed) > 0:
            error.exit_code = failed.pop()
        raise error


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err_console(),
        transient=True,
        disable=not err_console().is_terminal,
    )
