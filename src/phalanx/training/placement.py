"""Where a training runs: device, arithmetic, processes and threads."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from phalanx.errors import ParameterError
from phalanx.runtime.device import cores, resolve_device


@dataclass(frozen=True)
class Placement:
    """The resolved answer to ``--device``, ``precision`` and ``--workers``.

    ``precision`` and ``threads`` change how floating-point sums are rounded, so they are
    recorded with the run and kept when it continues.

    Attributes:
        device: ``"cpu"``, ``"cuda"`` (one process a device) or ``"cuda:1"``.
        precision: ``"fp32"`` or ``"bf16"``.
        workers: processes that train members side by side.
        threads: threads of each process.
    """

    device: str
    precision: str
    workers: int
    threads: int

    def device_of(self, worker: int) -> str:
        """The device of one worker; workers share out the GPUs."""
        if self.device != "cuda":
            return self.device
        return f"cuda:{worker % torch.cuda.device_count()}"


def place(device: str, precision: str, groups: int, workers: int | None) -> Placement:
    """Resolve what was asked on this machine.

    Args:
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``.
        precision: ``auto`` (bf16 where it is native), ``fp32`` or ``bf16``.
        groups: how many trainings there are to share out.
        workers: processes; None: one a core (or one a GPU), but no more than groups.

    Raises:
        ParameterError: there is no such device, or fewer than one worker is asked for.
    """
    if workers is not None and workers < 1:
        raise ParameterError(f"--workers is {workers}", why="there must be at least 1")
    resolved = str(resolve_device(device))
    places = cores()
    if resolved.startswith("cuda"):
        places = torch.cuda.device_count() if resolved == "cuda" else 1
    workers = min(workers or places, groups)
    threads = threads_each(workers)
    return Placement(resolved, resolve_precision(precision, resolved), workers, threads)


def threads_each(processes: int) -> int:
    """Threads of each of several processes: the cores shared out, or ``OMP_NUM_THREADS``."""
    wish = os.environ.get("OMP_NUM_THREADS", "")
    return int(wish) if wish.isdecimal() and int(wish) else max(1, cores() // processes)


def resolve_precision(precision: str, device: str) -> str:
    """``auto`` becomes ``bf16`` where the device multiplies bfloat16 natively, else ``fp32``."""
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        native = torch.cuda.get_device_capability(torch.device(device))[0] >= 8
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"
