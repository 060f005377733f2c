"""A deadline that is kept whatever the process is doing: a thread that ends it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from phalanx.cli.console import log

GRACE = 0.5
"""Seconds behind the deadline, for whoever is about to finish."""
TELLING = 5.0
"""Seconds between lines of progress."""


@contextmanager
def kept(
    seconds: float, last_word: Callable[[], str], progress: Callable[[], str]
) -> Iterator[None]:
    """Within the block, ``seconds`` and a grace are all there is.

    Args:
        seconds: from now on.
        last_word: what is printed on stdout when they are over, before the process ends with 0.
        progress: a line for a terminal on stderr, every few seconds.
    """
    done = threading.Event()
    end = time.monotonic() + seconds + GRACE
    told = sys.stderr.isatty()

    def watch() -> None:
        while (left := end - time.monotonic()) > 0:
            if done.wait(min(left, TELLING if told else left)):
                return
            if told and end - time.monotonic() > GRACE:
                log(f"{progress()}, {end - GRACE - time.monotonic():.0f} s left")
        if done.is_set():
            return
        print(last_word(), flush=True)
        # The main thread may be deep in a kernel: there is no other way to stop it.
        os._exit(0)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
