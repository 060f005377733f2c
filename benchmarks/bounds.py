"""Bounds of all nine margins on the published benchmarks' networks: seconds, mean lower margin.

    python benchmarks/bounds.py --networks DIR --mnist DIR [--cifar DIR] [--methods crown,...]

Batches of 8 MNIST images (mnist_fc) and of 4 CIFAR-10 images (oval21, cifar10_resnet), one thread,
CPU seconds of the bounding itself, the graph being prepared; boxes a CPU second on an ACAS Xu
network for sub-boxes of its first property's inputs after some halvings.

With ``--peer`` auto_LiRPA bounds the same margins in the same process, if it can be imported. The
quoted figures of it are from another run on such a machine, whose images and radii were not
recorded: on mnist_fc the radius is chosen so that CROWN's margins are near the quoted ones.
``--write`` keeps all in `results/bounds.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from phalanx.bounds.front import compute, margins
from phalanx.bounds.options import Options
from phalanx.bounds.prepare import prepare
from phalanx.bounds.region import box
from phalanx.data.locate import load
from phalanx.graph.from_onnx import from_onnx
from phalanx.graph.ir import Graph
from phalanx.graph.run import run
from phalanx.runs.provenance import cpu_model, utc_now


@dataclass(frozen=True)
class Network:
    """Its file, how many images, the radius, and (seconds, margin) quoted of the peer."""

    name: str
    file: str
    data: str
    images: int
    eps: float
    crown: tuple[float, float]
    alpha: tuple[float, float]


NETWORKS = (
    Network("256x2", "mnist_fc/onnx/mnist-net_256x2.onnx.gz", "mnist", 8, 0.0212,
            (0.024, 0.011), (2.1, 0.413)),
    Network("256x4", "mnist_fc/onnx/mnist-net_256x4.onnx.gz", "mnist", 8, 0.0212,
            (0.12, -0.84), (3.5, 0.509)),
    Network("256x6", "mnist_fc/onnx/mnist-net_256x6.onnx.gz", "mnist", 8, 0.0212,
            (0.24, -147.7), (12.4, -45.6)),
    Network("oval21 base", "oval21/onnx/cifar_base_kw.onnx.gz", "cifar10", 4, 2 / 255,
            (0.086, 1.93), (2.9, 2.07)),
    Network("resnet_2b", "cifar10_resnet/onnx/resnet_2b.onnx", "cifar10", 4, 1 / 255,
            (0.98, 2.48), (91.0, 2.69)),
)  # fmt: skip
# The mean and deviation of the CIFAR-10 benchmarks, whose files take normalised images.
MEAN, STD = (0.485, 0.456, 0.406), (0.225, 0.225, 0.225)
METHODS = ("interval", "crown-ibp", "fast-lin", "crown", "alpha-crown", "alpha-crown/full")
SHARE = 1 / 3
"""Of the peer's time, at most: the goal."""
PATIENCE = 60
"""CPU seconds after which no further round begins."""
ACAS = "acasxu/onnx/ACASXU_run2a_1_2_batch_2000.onnx.gz"
ACAS_BOX = ((0.6, -0.5, -0.5, 0.45, -0.5), (0.6799, 0.5, 0.5, 0.5, -0.45))
RESULT = Path(__file__).parent / "results" / "bounds.json"


def problem(network: Network, folder: Path, images: Tensor) -> tuple[Graph, Tensor, Tensor]:
    """Its prepared graph and the sides of the boxes, in the units and the shape it reads."""
    graph = prepare(from_onnx(folder / network.file))
    low, high = (images - network.eps).clamp(0, 1), (images + network.eps).clamp(0, 1)
    if network.data == "cifar10":
        mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (MEAN, STD))
        low, high = (low - mean) / std, (high - mean) / std
    shape = (len(images), *graph.input.shape)
    return graph, low.reshape(shape), high.reshape(shape)


def bounder(
    graph: Graph, sides: tuple[Tensor, Tensor], rows: Tensor, method: str
) -> Callable[[], Tensor]:
    """What computes the lower margins."""
    region = box(*sides)
    name, _, layers = method.partition("/")
    options = Options(layers=layers or "none")
    return lambda: compute(graph, region, method=name, rows=rows, options=options).lower


def measured(runs: Sequence[Callable[[], Tensor]], rounds: int) -> list[tuple[float, float]]:
    """CPU seconds, the median over rounds in which all take turns, and the mean lower margin.

    What takes `PATIENCE` in all has no further round.
    """
    seconds: list[list[float]] = [[] for _ in runs]
    means = [float("nan")] * len(runs)
    for _ in range(rounds):
        for place, one in enumerate(runs):
            start = time.process_time()
            found = one()
            seconds[place].append(time.process_time() - start)
            means[place] = float(found.mean())
        if sum(map(sum, seconds)) > PATIENCE:
            break
    return [(median(one), mean) for one, mean in zip(seconds, means, strict=True)]


def row_of(network: Network, problem_: tuple[Graph, Tensor, Tensor], method: str, peer: bool,
           rounds: int) -> dict[str, Any]:  # fmt: skip
    """What a method does on a network, beside the peer's and what is quoted of it."""
    graph, low, high = problem_
    rows = margins(run(graph, (low + high) / 2).argmax(1), 10)
    runs = [bounder(graph, (low, high), rows, method)]
    quoted = {"crown": network.crown, "alpha-crown/full": network.alpha}.get(method)
    if peer and quoted is not None:
        from bounds_peer import bounder as of_peer

        runs.append(of_peer(graph, (low, high), rows, method))
    (seconds, margin), *others = measured(runs, rounds)
    found: dict[str, Any] = {"network": network.name, "method": method}
    found |= {"seconds": round(seconds, 4), "margin": round(margin, 4)}
    if quoted is not None:
        found |= {"quoted_seconds": quoted[0], "quoted_margin": quoted[1]}
    for peer_seconds, peer_margin in others:
        share = seconds / peer_seconds
        found |= {"peer_seconds": round(peer_seconds, 4), "peer_margin": round(peer_margin, 4)}
        found |= {"share_of_peer_time": round(share, 3)}
        found |= {"goal_met": share <= SHARE and margin >= peer_margin - 1e-4}
    return found


def boxes_a_second(folder: Path, count: int, halvings: int) -> dict[str, Any]:
    """Plain CROWN on sub-boxes of ACAS Xu's first property, drawn by halving the widest side."""
    graph = prepare(from_onnx(folder / ACAS))
    random = torch.Generator().manual_seed(0)
    low, high = (torch.tensor(side).repeat(count, 1) for side in ACAS_BOX)
    for _ in range(halvings):
        width = high - low + 0.05 * torch.rand(count, 5, generator=random)
        axis = width.argmax(1, keepdim=True)
        middle = (low.gather(1, axis) + high.gather(1, axis)) / 2
        upper = torch.rand(count, 1, generator=random) < 0.5
        low = torch.where(upper, low.scatter(1, axis, middle), low)
        high = torch.where(upper, high, high.scatter(1, axis, middle))
    shape = (count, *graph.input.shape)
    rows = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]])
    region, best = box(low.reshape(shape), high.reshape(shape)), float("inf")
    for _ in range(3):
        start = time.process_time()
        compute(graph, region, method="crown", rows=rows)
        best = min(best, time.process_time() - start)
    return {"boxes": count, "halvings": halvings, "boxes_a_cpu_second": round(count / best)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=Path, required=True)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folders = {"mnist": arguments.mnist, "cifar10": arguments.cifar}
    rows: list[dict[str, Any]] = []
    acas = [boxes_a_second(arguments.networks, 4000, halvings) for halvings in (6, 10, 14)]
    print(json.dumps(acas), flush=True)
    for network in NETWORKS:
        if folders[network.data] is None:
            continue
        images = load(network.data, folders[network.data]).images(range(network.images))
        asked = problem(network, arguments.networks, images)
        for method in arguments.methods.split(","):
            rows.append(row_of(network, asked, method, arguments.peer, arguments.rounds))
            print(json.dumps(rows[-1]), flush=True)
            if arguments.write:
                machine = {"processor": cpu_model(), "torch": torch.__version__, "threads": 1}
                kept = {"machine": machine, "measured": utc_now(), "rows": rows, "acasxu": acas}
                RESULT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
