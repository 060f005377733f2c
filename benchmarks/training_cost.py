"""What a coupled training costs: time of a step beside plain training, and memory by its parts.

Time: a step of three members (loss, gradients, optimiser) under every ensemble loss, as a
multiple of three steps of Gaussian augmentation; medians of interleaved rounds on equal batches.
Memory: the most a DRT step holds, and a Gaussian one, for the same batch in more and more parts
and with activations that are computed again.

    python benchmarks/training_cost.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from phalanx.losses import Batch, build_loss
from phalanx.models.build import build
from phalanx.models.recompute import recompute_blocks
from phalanx.runs.provenance import cpu_model
from phalanx.runtime.device import describe_device, resolve_device
from phalanx.training.passes import Eager, passes

RESULTS = Path(__file__).parent / "results"
MEMBERS, SIGMA, GOAL = 3, 0.5, 3.0
NETWORKS = {"lenet5": (1, 28, 28), "mnist-cnn": (1, 28, 28), "resnet20": (3, 32, 32)}
LOSSES = ("drt", "member-gradient-norm", "gal", "trs", "adp")
LARGE, LARGE_SHAPE, LARGE_BATCH = "resnet50", (3, 64, 64), 32

Step = Callable[[], None]


def batch_of(rows: int, shape: Sequence[int], device: torch.device) -> Batch:
    """Random images in channels-last memory, as the trainer hands them over."""
    draw = torch.Generator().manual_seed(0)
    x, noise = torch.rand(2, rows, *shape, generator=draw).to(device)
    x = x.contiguous(memory_format=torch.channels_last)
    return Batch(x, torch.arange(rows, device=device) % 10, lambda _: noise)


def members_of(network: str, shape: tuple[int, ...], device: torch.device) -> list[nn.Module]:
    """Fresh members in training mode."""
    made = [build(network, 10, shape, key=key).train() for key in range(MEMBERS)]
    return [member.to(device, memory_format=torch.channels_last) for member in made]  # type: ignore[call-overload]


def step_of(loss: str, network: str, rows: int, device: torch.device) -> Step:
    """One step of all members, as `phalanx.training.loop` takes it."""
    shape = NETWORKS[network]
    members, batch = members_of(network, shape, device), batch_of(rows, shape, device)
    built = build_loss(loss, {"sigma": SIGMA})
    groups = [members] if built.coupled else [[member] for member in members]
    sides = []
    for group in groups:
        parameters = [p for member in group for p in member.parameters()]
        eager = Eager(built, group, device, "fp32")
        sides.append((passes(eager, rows, alone=True), torch.optim.SGD(parameters, 1e-6, 0.9)))

    def step() -> None:
        for run, optimizer in sides:
            run(batch)
            optimizer.step()

    return step


def seconds(step: Step, device: torch.device, at_least: float) -> float:
    """Of one step, the mean over some."""
    steps, start = 0, time.perf_counter()
    while True:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        steps, passed = steps + 1, time.perf_counter() - start
        if passed >= at_least:
            return passed / steps


def costs(network: str, rows: int, device: torch.device, options: argparse.Namespace) -> dict:
    """Every ensemble loss beside plain training, for one network."""
    plain = step_of("gaussian", network, rows, device)
    steps = {loss: step_of(loss, network, rows, device) for loss in LOSSES}
    for step in (plain, *steps.values()):
        for _ in range(5):  # libraries choose kernels, a GPU records
            step()
    ratios: dict[str, list[float]] = {loss: [] for loss in LOSSES}
    plains = []
    for _ in range(options.rounds):
        plains.append(seconds(plain, device, options.seconds))
        for loss, step in steps.items():
            ratios[loss].append(seconds(step, device, options.seconds) / plains[-1])
    found = {loss: round(statistics.median(all_), 2) for loss, all_ in ratios.items()}
    row = {"network": network, "batch": rows, "plain_ms": round(1e3 * statistics.median(plains), 1)}
    print(f"{network}, batch {rows}: plain {row['plain_ms']} ms; " + _listed(found), flush=True)
    return row | {"times_plain": found}


def _listed(found: dict[str, float]) -> str:
    met = "met" if found["drt"] <= GOAL else "MISSED"
    others = ", ".join(f"{loss} {value}" for loss, value in found.items())
    return f"times plain: {others} (DRT at most {GOAL}: {met})"


def held(loss: str, parts: int, recomputed: bool, device: torch.device) -> dict[str, object]:
    """The most memory one step of large networks adds to weights and gradients.

    Of all members where the loss couples them, else of one: they are trained one at a time.
    """
    built = build_loss(loss, {"sigma": SIGMA})
    members = members_of(LARGE, LARGE_SHAPE, device)[: None if built.coupled else 1]
    if recomputed:
        for member in members:
            recompute_blocks(member, LARGE)
    eager = Eager(built, members, device, "fp32")
    batch = batch_of(LARGE_BATCH // parts, LARGE_SHAPE, device)
    eager(batch, 1 / parts)  # the gradients exist from here on
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        eager(batch, 1 / parts, add=True)
        most = torch.cuda.max_memory_allocated(device) - before
    else:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
            eager(batch, 1 / parts, add=True)
        most = _most(watched)
    row = {
        "loss": loss,
        "parts": parts,
        "recomputed": recomputed,
        "members": len(members),
        "mib": round(most / 2**20),
    }
    again = ", activations computed again" if recomputed else ""
    print(f"{LARGE} x {len(members)}, {loss}, {parts} parts{again}: {row['mib']} MiB", flush=True)
    return row


def _most(watched: profile) -> int:
    events: list[Any] = watched.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held_now = most = 0
    for _, change in changes:
        held_now += change
        most = max(most, held_now)
    return most


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each side in a round")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = resolve_device(options.device)
    times = [costs(network, options.batch, device, options) for network in NETWORKS]
    cases = [
        (loss, parts, again)
        for loss in ("gaussian", "drt")
        for parts in (1, 4)
        for again in (False, True)
    ]
    memory = [held(*case, device) for case in cases]
    RESULTS.mkdir(exist_ok=True)
    name = describe_device(device) if device.type == "cuda" else cpu_model()
    result = {
        "command": f"python benchmarks/training_cost.py --rounds {options.rounds}",
        "device": name,
        "goal": GOAL,
        "step": times,
        "memory": {"network": LARGE, "shape": LARGE_SHAPE, "batch": LARGE_BATCH, "rows": memory},
    }
    (RESULTS / "training_cost.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
