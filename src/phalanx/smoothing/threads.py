"""How many threads run the passes: all of them, or one where they would wait for one another."""

from __future__ import annotations

import time
from statistics import median

import torch

PASSES = 4
"""Of a trial of one number of threads; the first is not timed."""
AGAIN_SECONDS = 30.0
"""Between trials: other programs come and go."""


class ThreadTrials:
    """The faster of all threads and one, found on the passes of the work itself.

    Threads that wait for one another are far slower than one when other programs keep the
    cores busy, and no faster on small networks. They change no count (see
    `phalanx.smoothing.tuning.reproducible`). Nothing on a GPU.

    >>> with ThreadTrials(torch.device("cpu")) as trials:
    ...     for _ in range(3):
    ...         trials.passed()
    """

    def __init__(self, device: torch.device) -> None:
        self._before = torch.get_num_threads()
        self._choices = (self._before, 1) if device.type == "cpu" and self._before > 1 else ()
        self._seconds: dict[int, list[float]] = {}
        self._ended = self._settled = 0.0

    def __enter__(self) -> ThreadTrials:
        self._begin(time.perf_counter())
        return self

    def __exit__(self, *error: object) -> None:
        if self._choices:
            torch.set_num_threads(self._before)

    def passed(self) -> None:
        """To be called after every pass."""
        if not self._choices:
            return
        now = time.perf_counter()
        if self._settled:
            if now - self._settled > AGAIN_SECONDS:
                self._begin(now)
            return
        threads = torch.get_num_threads()
        self._seconds.setdefault(threads, []).append(now - self._ended)
        self._ended = now
        if len(self._seconds[threads]) == PASSES:
            self._next(now)

    def _begin(self, now: float) -> None:
        self._seconds, self._ended, self._settled = {}, now, 0.0

    def _next(self, now: float) -> None:
        """Try the number that is left, or settle on the faster one."""
        left = [choice for choice in self._choices if choice not in self._seconds]
        if left:
            torch.set_num_threads(left[0])
            return
        torch.set_num_threads(min(self._choices, key=lambda n: median(self._seconds[n][1:])))
        self._settled = now
