"""Which device to use, and what it is called in a run's provenance."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Run a block in which a float32 product is a float32 product.

    By default CUDA convolutions of float32 numbers drop 13 of their 24 bits (TF32), as matrix
    products do once ``torch.set_float32_matmul_precision`` allowed it, on a CPU too; autocast
    drops 16. What runs as float32 must not depend on such settings; all are put back.
    """
    shortened = [
        (place, name, exact, value)
        for place, name, exact in _switches()
        if (value := getattr(place, name)) != exact
    ]
    if not shortened and not torch.is_autocast_enabled(device.type):
        yield
        return
    try:
        for place, name, exact, _ in shortened:
            setattr(place, name, exact)
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for place, name, _, value in shortened:
            setattr(place, name, value)


def _switches() -> list[tuple[Any, str, Any]]:
    """(place, attribute, value that keeps all bits) of every product torch may shorten."""
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):  # torch before 2.9
        return [(place, "allow_tf32", False) for place in (backends.cudnn, backends.cuda.matmul)]
    cudnn, onednn = backends.cudnn, backends.mkldnn
    places = (cudnn.conv, cudnn.rnn, backends.cuda.matmul, onednn.conv, onednn.rnn, onednn.matmul)
    return [(place, "fp32_precision", "ieee") for place in places]


def describe_device(device: torch.device) -> str:
    """The device's own name, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
