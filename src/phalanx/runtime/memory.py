"""Keep freed memory instead of handing it back to the system after every layer.

glibc gives large blocks back to the system when they are freed and gets them back at the next
layer page by page, zeroed. On the MNIST network that is from a seventh of a training step
(batches of 256) to two thirds of it (4,096 rows at once, as MACER has them).
"""

from __future__ import annotations

import ctypes
import os
import platform

SETTINGS = {"MALLOC_MMAP_MAX_": (-4, 0), "MALLOC_TRIM_THRESHOLD_": (-1, -1)}
"""Variable of the environment: mallopt's number and value. No block of its own from the system,
however large, and none given back (thresholds cannot exceed 32 MiB or 2 GiB)."""


def keep_freed_pages() -> bool:
    """Keep them in this process and in the processes it starts.

    Until it ends the process holds what it ever needed at once, and some more between blocks that
    do not fit (a loop over 64 MiB settled at 0.7 GiB), so this is for commands and their workers,
    and a library leaves it to its host. Results do not depend on it.

    Returns:
        Whether it took effect; elsewhere than on glibc nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    kept = all(libc.mallopt(number, value) for number, value in SETTINGS.values())
    if kept:
        for variable, (_, value) in SETTINGS.items():
            os.environ.setdefault(variable, str(value))
    return kept
