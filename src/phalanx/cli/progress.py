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

if TYPE_CHECKING:
    from phalanx.evaluation.request import Request
    from phalanx.runs.store import RunStore

LINE_SECONDS = 30.0
POLL_SECONDS = 0.5


@contextmanager
def certify_progress(request: Request, store: RunStore) -> Iterator[Callable[[int, int], None]]:
    """A callback for `Sweep`: rows counted and images finished since the last call."""
    started = time.monotonic()
    done = len(store.finished() & set(request.indices))
    rows = 0
    with _bar() as bar:
        total = len(request.indices)
        task = bar.add_task("certify", total=total, completed=done, rate="")
        last = started

        def advance(new_rows: int, new_images: int) -> None:
            nonlocal rows, last, done
            rows += new_rows
            done += new_images
            now = time.monotonic()
            rate = f"{rows / max(now - started, 1e-9):,.0f} samples/s"
            bar.update(task, completed=done, rate=rate)
            if not err_console().is_terminal and now - last > LINE_SECONDS:
                log(f"{done} of {total} images, {rate}")
                last = now

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
        PhalanxError: images were left, with the exit code of the processes if they agree on
            one; the run can be resumed.
    """
    from phalanx.runtime.executors import stop_workers

    wanted = set(request.indices)
    try:
        with _bar() as bar:
            task = bar.add_task("certify", total=len(wanted), rate=f"{len(processes)} processes")
            while any(process.poll() is None for process in processes):
                bar.update(task, completed=len(store.finished() & wanted))
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
        if len(codes) == 1 and min(codes) > 0:
            error.exit_code = codes.pop()
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
