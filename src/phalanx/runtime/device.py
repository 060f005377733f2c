"""Which device to use, and what it is called in a run's provenance."""

from __future__ import annotations

import os
import platform

import torch

from phalanx.errors import ParameterError


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` is the first GPU where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ParameterError(
            f"device {name!r} cannot be used", why=str(error).splitlines()[0], repair="--device cpu"
        ) from None
    return device


def describe_device(device: torch.device) -> str:
    """The device's own name, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
