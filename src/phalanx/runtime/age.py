"""How long this process has run."""

from __future__ import annotations

import os
import time
from pathlib import Path

LONGEST_START = 5.0
"""Processor seconds before a command that are its start; a process that has used more did something
else before."""
LONGEST_WAIT = 60.0
"""Seconds by the clock, likewise."""


def started() -> float:
    """When this process began, on the clock of `time.monotonic`; now, if it is no fresh one.

    By the system's word where it gives one, so that time counts that others had the processor; else
    by the processor time there was.

    >>> began = started()
    >>> 0 <= time.monotonic() - began <= LONGEST_WAIT
    True
    """
    now, used = time.monotonic(), time.process_time()
    if used >= LONGEST_START:
        return now
    age = _age()
    return now - (used if age is None or not used <= age <= LONGEST_WAIT else age)


def _age() -> float | None:
    """Seconds since the process was started, to a hundredth; None where the system does not say."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        began = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # the 22nd of all fields
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (OSError, AttributeError, ValueError, IndexError):
        return None
