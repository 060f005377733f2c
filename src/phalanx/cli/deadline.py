"""A deadline that is kept whatever the work is doing: it is watched from another process.

The work may sit in a kernel that no thread of its own process interrupts, or be ended by a system
that is out of memory. Where a process can be forked before torch is imported, the work goes on in
the child; elsewhere a thread does what it can.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from phalanx.cli.console import log
from phalanx.errors import RequirementUnmet, SampleErrors

GRACE = 0.4
"""Seconds behind the deadline, for whoever is about to finish."""
LOOK = 0.02
"""Seconds between two looks at the work."""
TELLING = 5.0
"""Seconds between lines of progress."""


class Known:
    """What the work has found so far, where its watcher can read it.

    Attributes:
        PROVEN: the property is verified, and nothing that could deny it is still to be done.
        TWO: the query is of version 2.0, which has other words.
        ANSWERING: the answer, or the file of its proof, is being written; nobody ends that.
        ANSWERED: the answer was written; nobody else writes one, and what comes behind it may be
            ended.
    """

    PROVEN, TWO, ANSWERING, ANSWERED = 1, 2, 4, 8

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, 1)

    def tell(self, flag: int, value: bool = True) -> None:
        """Raise or lower a flag."""
        now = self._bytes[0]
        self._bytes[0] = now | flag if value else now & ~flag

    def has(self, flag: int) -> bool:
        """Whether one of these flags is raised."""
        return bool(self._bytes[0] & flag)

    def last_word(self) -> str:
        """The answer so far."""
        if self.has(self.PROVEN):
            return "unsat"
        return "timed-out" if self.has(self.TWO) else "timeout"


def keep_time(seconds: float, written: Callable[[str], str], progress: Callable[[], str]) -> Known:
    """From here on ``seconds`` and a grace are all there is; returns in the process that works.

    Args:
        seconds: from now on.
        written: a last word as it is printed on stdout, before everything ends with 0.
        progress: a line for a terminal on stderr, every few seconds.
    """
    known, end = Known(), time.monotonic() + seconds
    if hasattr(os, "fork") and "torch" not in sys.modules and threading.active_count() == 1:
        child = os.fork()
        if child:
            os._exit(_watched(child, end, known, written))
        parent = os.getppid()
        _beside(lambda: _look_after(end, progress, lambda: os.getppid() == parent))
    else:
        _beside(lambda: _end_here(end, known, written))
    return known


def _watched(child: int, end: float, known: Known, written: Callable[[str], str]) -> int:
    """Wait for the work, or end it; the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os.kill(child, signal.SIGKILL))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work hears it too
    while time.monotonic() < end + GRACE or known.has(Known.ANSWERING):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return _ended(os.waitstatus_to_exitcode(status), known)
        time.sleep(LOOK)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return _at_the_end(known, written)


def _at_the_end(known: Known, written: Callable[[str], str]) -> int:
    """The answer for want of time, or what is to be said where there is one; the exit code."""
    if known.has(Known.ANSWERED):
        log("error: no proof is written: the answer stands; there was no time left")
        return RequirementUnmet.exit_code
    print(written(known.last_word()), flush=True)
    return 0


def _ended(code: int, known: Known) -> int:
    if code >= 0:
        return code
    if not known.has(Known.ANSWERING | Known.ANSWERED):
        print("error", flush=True)
    log(f"error: the work was ended by signal {-code}, for example for want of memory")
    return SampleErrors.exit_code


def _beside(watch: Callable[[], None]) -> None:
    threading.Thread(target=watch, daemon=True).start()


def _look_after(end: float, progress: Callable[[], str], watched: Callable[[], bool]) -> None:
    """In the process that works: tell how far it is, and end with whoever watches it."""
    told = time.monotonic()
    while True:
        time.sleep(0.5)
        if not watched():
            os._exit(1)
        if sys.stderr.isatty() and time.monotonic() - told > TELLING:
            told = time.monotonic()
            log(f"{progress()}, {max(end - told, 0):.0f} s left")


def _end_here(end: float, known: Known, written: Callable[[str], str]) -> None:
    time.sleep(max(end + GRACE - time.monotonic(), 0))
    if not known.has(Known.ANSWERING):
        known.tell(Known.ANSWERING)
        os._exit(_at_the_end(known, written))
