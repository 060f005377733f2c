"""How long forward passes take: rounds that take turns, so that what slows one slows all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phalanx.errors import ParameterError

FEWEST_FOR_P95 = 20
"""Passes below which a 95th percentile would be no more than the largest of a few."""

Pass = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Latency:
    """Seconds of one pass.

    Attributes:
        p50: median over rounds of each round's median.
        p95: 95th percentile of all passes; None of fewer than `FEWEST_FOR_P95`.
        passes: how many were timed.
    """

    p50: float
    p95: float | None
    passes: int

    def as_json(self) -> dict[str, Any]:
        """JSON values; an absent percentile is null."""
        return {"p50_seconds": self.p50, "p95_seconds": self.p95, "passes": self.passes}


def latencies(
    passes: Mapping[str, Pass],
    x: Tensor,
    *,
    rounds: int,
    seconds: float,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Latency]:
    """Time every pass on ``x``, one round after another.

    Args:
        passes: by name; each runs once untimed first.
        x: a batch ``(B, *shape)``, on the device that is timed.
        rounds: in each, every pass has its turn.
        seconds: of a turn, about; at least one pass is timed.
        progress: told after every turn.

    Raises:
        ParameterError: no round, or no time.
    """
    if rounds < 1 or not seconds > 0:
        raise ParameterError(f"{rounds} rounds of {seconds} seconds", why="both are above 0")
    found: dict[str, list[list[float]]] = {name: [] for name in passes}
    done, turns = 0, (rounds + 1) * len(passes)
    for number in range(rounds + 1):
        for name, run in passes.items():
            turn = _turn(run, x, seconds if number else 0.0)
            if number:  # the first one warms up
                found[name].append(turn)
            done += 1
            if progress is not None:
                progress(done, turns)
    return {name: _summed_up(turns_) for name, turns_ in found.items()}


@torch.inference_mode()
def _turn(run: Pass, x: Tensor, seconds: float) -> list[float]:
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while not taken or time.perf_counter() < ends:
        started = time.perf_counter()
        run(x)
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)
        taken.append(time.perf_counter() - started)
    return taken


def _summed_up(turns: list[list[float]]) -> Latency:
    """
    >>> _summed_up([[1.0, 2.0, 3.0], [5.0], [4.0, 4.0]])
    Latency(p50=4.0, p95=None, passes=6)
    """
    every = [value for turn in turns for value in turn]
    enough = len(every) >= FEWEST_FOR_P95
    p95 = float(np.quantile(every, 0.95)) if enough else None
    return Latency(median(median(turn) for turn in turns), p95, len(every))
