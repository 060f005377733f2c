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

from phalanx.errors import ParameterError
from phalanx.runtime.device import cores

THREADS_VARIABLE = "PHALANX_THREADS"
WORKER_VARIABLE = "PHALANX_WORKER"
DEADLINE_VARIABLE = "PHALANX_DEADLINE"


def check_workers(workers: int) -> None:
    """Refuse a number of processes that is no number of processes."""
    if workers < 1:
        raise ParameterError(f"--workers is {workers}", why="it is a number of processes")


def is_worker() -> bool:
    """Whether this process was started by `start_workers`: it counts, and leaves answers to it."""
    return WORKER_VARIABLE in os.environ


def start_workers(
    arguments: Sequence[str], workers: int, seconds: float | None = None
) -> list[subprocess.Popen[bytes]]:
    """Start ``phalanx <arguments>`` ``workers`` times, sharing the machine's cores evenly.

    Args:
        arguments: the command, naming the run folder.
        workers: how many.
        seconds: time after which they start no further image.
    """
    threads = str(max(1, cores() // workers))
    environment = {**os.environ, THREADS_VARIABLE: threads, "OMP_NUM_THREADS": threads}
    if seconds is not None:
        environment[DEADLINE_VARIABLE] = str(time.time() + seconds)
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


def seconds_for_worker() -> float | None:
    """Time this process was given, or None."""
    value = os.environ.get(DEADLINE_VARIABLE)
    return max(float(value) - time.time(), 0.0) if value else None


def stop_workers(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupt every worker and wait for it; their run can be resumed."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in processes:
        process.wait()


def threads_for_worker() -> int | None:
    """Threads this process was told to use, or None."""
    value = os.environ.get(THREADS_VARIABLE)
    return int(value) if value else None
