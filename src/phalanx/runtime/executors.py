"""Several processes on one run: the same command, started several times.

Work is claimed from the run's store, image by image, so processes need no channel between
them; one that dies is replaced by whoever finds its claim stale.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from phalanx.errors import Interrupted, ParameterError
from phalanx.runtime.device import cores

THREADS_VARIABLE = "PHALANX_THREADS"
WORKER_VARIABLE = "PHALANX_WORKER"


def check_workers(workers: int) -> None:
    """Refuse a number of processes that is no number of processes."""
    if workers < 1:
        raise ParameterError(f"--workers is {workers}", why="it is a number of processes")


def is_worker() -> bool:
    """Whether this process was started by `run_workers`."""
    return WORKER_VARIABLE in os.environ


def start_workers(arguments: Sequence[str], workers: int) -> list[subprocess.Popen[bytes]]:
    """Start ``phalanx <arguments>`` ``workers`` times, sharing the machine's cores evenly."""
    threads = str(max(1, cores() // workers))
    environment = {**os.environ, THREADS_VARIABLE: threads, "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-m", "phalanx.cli.main", *arguments]
    return [
        subprocess.Popen(
            command,
            env={**environment, WORKER_VARIABLE: str(index)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for index in range(workers)
    ]


def wait_workers(processes: Sequence[subprocess.Popen[bytes]], poll: float = 0.2) -> list[int]:
    """Exit codes of all workers; interrupting stops them all, and their run can be resumed."""
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(poll)
    except KeyboardInterrupt:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait()
        raise Interrupted("stopped", repair="the same command continues") from None
    return [process.returncode for process in processes]


def threads_for_worker() -> int | None:
    """Threads this process was told to use, or None."""
    value = os.environ.get(THREADS_VARIABLE)
    return int(value) if value else None
