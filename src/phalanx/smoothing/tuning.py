"""Batch size and memory format, measured on the members themselves.

Precision is never chosen here: it is part of the classifier's identity.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import torch

from phalanx.errors import ModelError
from phalanx.models.model import Model
from phalanx.smoothing.bank import Layout, MemberBank

CPU_BATCHES = (32, 64, 100, 128, 256, 384, 512, 1024, 2048)
GPU_BATCHES = (256, 512, 1024, 2048, 4096, 8192)
SECONDS_EACH = 0.12
THREADS_BATCH = 256
MOST_SHARE = 0.05
"""Of the time the run itself will take, spent on either memory format at most."""


@dataclass(frozen=True)
class Tuned:
    """The fastest shape found, and how many inputs a second the members take at it."""

    batch: int
    layout: Layout
    rate: float


def tune(
    models: Sequence[Model],
    shape: Sequence[int],
    layout: Layout,
    device: torch.device,
    *,
    batch: int | None = None,
    rows: float = math.inf,
) -> Tuned:
    """Try both memory formats and growing batches; stop a series once it keeps getting slower.

    Args:
        rows: noisy inputs the run will need; one that is soon over is not tuned for long.
        batch: fix the batch size (or, where that does not fit, the largest half of a half of
            it that does) and choose the memory format alone.

    A candidate that runs out of memory ends its series; where the first one does, it is halved
    until it fits. Nothing has been counted yet. One whose rounding is not `reproducible` is passed
    over.

    Raises:
        ModelError: not even the smallest batch fits, or no shape is reproducible.
    """
    bank = MemberBank(models, replace(layout, channels_last=False), device)
    with fastest_threads(bank, shape, batch or THREADS_BATCH):
        candidates = _candidates(models, shape, layout, device, batch=batch, rows=rows)
        found = sorted(candidates, key=lambda candidate: -candidate[0].rate)
    if not found:
        smallest = batch or _batches(device)[0]
        raise ModelError(
            f"a batch of {smallest} does not fit in the memory of {device}",
            repair="--batch with a smaller number, or --device cpu",
        )
    for tuned, bank in found:
        if reproducible(bank, shape, tuned.batch):
            return tuned
    raise ModelError(
        f"in a batch of {found[0][0].batch} a row's logits depend on its place or on the threads",
        why="votes that tie would move whenever a run is resumed or shared",
        repair="--batch auto, or a larger one",
    )


@torch.inference_mode()
def reproducible(bank: MemberBank, shape: Sequence[int], batch: int) -> bool:
    """Whether a row's logits are the same bits at another place of its batch, for any threads.

    Kernels cut small batches into parts, one a thread, and may round in each part differently
    (seen with MKL below 12 rows). Any number of threads that a worker could be given is tried.
    A GPU's kernels are chosen by the shape alone and are not tried.
    """
    if bank.device.type != "cpu":
        return True
    x = bank.buffer(batch, shape).uniform_(generator=_generator(bank.device))
    shift, threads = batch // 2 + 1, torch.get_num_threads()
    elsewhere = x.roll(shift, 0).contiguous(memory_format=bank.memory_format(x.ndim))
    expected = bank.logits(x).view(torch.int32)  # the bits: NaN equals NaN
    try:
        for count in {threads // workers for workers in range(1, threads + 1)}:
            torch.set_num_threads(count)
            found = bank.logits(elsewhere).roll(-shift, 1)
            if not torch.equal(found.view(torch.int32), expected):
                return False
        return True
    finally:
        torch.set_num_threads(threads)


@contextmanager
def fastest_threads(bank: MemberBank, shape: Sequence[int], batch: int) -> Iterator[int]:
    """Run a block with one thread or with all of them, whichever is faster just now.

    Threads that wait for one another are far slower than one when other programs keep the
    cores busy, and no faster on small networks. They change no count. Nothing on a GPU.
    """
    threads = torch.get_num_threads()
    if bank.device.type != "cpu" or threads == 1:
        yield threads
        return
    try:
        rates = {}
        for count in (threads, 1):
            torch.set_num_threads(count)
            rates[count] = throughput(bank, shape, batch)
        chosen = max(rates, key=lambda count: rates[count])
        torch.set_num_threads(chosen)
        yield chosen
    finally:
        torch.set_num_threads(threads)


def _candidates(
    models: Sequence[Model],
    shape: Sequence[int],
    layout: Layout,
    device: torch.device,
    *,
    batch: int | None,
    rows: float,
) -> Iterator[tuple[Tuned, MemberBank]]:
    for channels_last in (True, False) if len(shape) == 3 else (False,):
        candidate = replace(layout, channels_last=channels_last)
        bank = MemberBank(models, candidate, device)
        for size, rate in _series(bank, shape, (batch,) if batch else _batches(device), rows):
            yield Tuned(size, candidate, rate), bank


def _batches(device: torch.device) -> tuple[int, ...]:
    return CPU_BATCHES if device.type == "cpu" else GPU_BATCHES


def _series(
    bank: MemberBank, shape: Sequence[int], sizes: Sequence[int], rows: float
) -> Iterator[tuple[int, float]]:
    worse, top, seconds, until = 0, 0.0, SECONDS_EACH, math.inf
    for size in sizes:
        if time.perf_counter() > until:
            return
        try:
            if not top and rows < math.inf:
                allowed = MOST_SHARE * rows / throughput(bank, shape, size, 0.0)
                seconds = min(SECONDS_EACH, allowed / len(sizes))
                until = time.perf_counter() + allowed
            rate = throughput(bank, shape, size, seconds)
        except torch.OutOfMemoryError:
            if not top:
                yield from _first_that_fits(bank, shape, size)
            return
        yield size, rate
        worse, top = (worse + 1, top) if rate < top else (0, rate)
        if worse == 2:
            return


def _first_that_fits(
    bank: MemberBank, shape: Sequence[int], size: int
) -> Iterator[tuple[int, float]]:
    while size > 1:
        size //= 2
        _let_go(bank.device)
        with suppress(torch.OutOfMemoryError):
            yield size, throughput(bank, shape, size)
            return


def halved(bank: MemberBank, shape: Sequence[int], batch: int) -> int:
    """The batch to go on with where one of ``batch`` rows ran out of memory.

    Raises:
        ModelError: no smaller one fits and is `reproducible`.
    """
    while batch > 1:
        for size, _ in _first_that_fits(bank, shape, batch):
            if reproducible(bank, shape, size):
                return size
            batch = size
            break
        else:
            break
    raise ModelError(
        f"the memory of {bank.device} is used up, and no smaller batch fits",
        why="what was counted so far is kept",
        repair="the same command continues, once memory is free",
    )


def _let_go(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


@torch.inference_mode()
def throughput(
    bank: MemberBank, shape: Sequence[int], batch: int, seconds: float = SECONDS_EACH
) -> float:
    """Inputs a second through all members; the median of three short rounds."""
    x = bank.buffer(batch, shape).uniform_(generator=_generator(bank.device))
    bank.logits(x)
    rounds = sorted(_round(bank, x, seconds / 3) for _ in range(3))
    return rounds[1]


def _round(bank: MemberBank, x: torch.Tensor, seconds: float) -> float:
    passes, start = 0, time.perf_counter()
    while True:
        bank.logits(x)
        if bank.device.type == "cuda":
            torch.cuda.synchronize(bank.device)
        passes += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return passes * len(x) / elapsed


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)
