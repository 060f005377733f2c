"""Bounds of all nine margins on the published benchmarks' networks: seconds, mean lower margin.

    python benchmarks/bounds.py --networks DIR --mnist DIR [--cifar DIR] [--methods crown,...]

Batches of 8 MNIST images (mnist_fc) and of 4 CIFAR-10 images (oval21, cifar10_resnet), one thread,
CPU seconds of the bounding itself, the graph being prepared. The quoted figures of auto_LiRPA are
from another run on such a machine, whose images and radii were not recorded: on mnist_fc the radius
is chosen so that CROWN's margins are near the quoted ones. Seconds compare, margins hardly.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from phalanx.bounds.compute import compute, margins
from phalanx.bounds.prepare import prepare
from phalanx.bounds.problem import Options
from phalanx.bounds.region import box
from phalanx.data.locate import load
from phalanx.graph.from_onnx import from_onnx
from phalanx.graph.ir import Graph
from phalanx.graph.run import run


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
METHODS = ("interval", "crown-ibp", "fast-lin", "crown", "alpha-crown", "alpha-crown/layers")


def problem(network: Network, folder: Path, images: Tensor) -> tuple[Graph, Tensor, Tensor]:
    """Its prepared graph and the sides of the boxes, in the units and the shape it reads."""
    graph = prepare(from_onnx(folder / network.file))
    low, high = (images - network.eps).clamp(0, 1), (images + network.eps).clamp(0, 1)
    if network.data == "cifar10":
        mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (MEAN, STD))
        low, high = (low - mean) / std, (high - mean) / std
    shape = (len(images), *graph.input.shape)
    return graph, low.reshape(shape), high.reshape(shape)


def measured(
    graph: Graph, low: Tensor, high: Tensor, method: str, repeats: int
) -> tuple[float, float]:
    """CPU seconds, the best of several, and the mean lower margin."""
    labels = run(graph, (low + high) / 2).argmax(1)
    rows, region = margins(labels, 10), box(low, high)
    name, _, layers = method.partition("/")
    options, best, mean = Options(layers=layers or "none"), float("inf"), float("nan")
    for _ in range(repeats):
        start = time.process_time()
        found = compute(graph, region, method=name, rows=rows, options=options)
        best, mean = min(best, time.process_time() - start), float(found.lower.mean())
    return best, mean


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=Path, required=True)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folders = {"mnist": arguments.mnist, "cifar10": arguments.cifar}
    print(f"{'network':13}{'method':20}{'seconds':>9}{'margin':>11}{'quoted s':>10}{'margin':>9}")
    for network in NETWORKS:
        if folders[network.data] is None:
            continue
        images = load(network.data, folders[network.data]).images(range(network.images))
        graph, low, high = problem(network, arguments.networks, images)
        for method in arguments.methods.split(","):
            repeats = 1 if "/" in method else arguments.repeats
            seconds, margin = measured(graph, low, high, method, repeats)
            quoted = {"crown": network.crown, "alpha-crown": network.alpha,
                      "alpha-crown/layers": network.alpha}.get(method)  # fmt: skip
            said = "" if quoted is None else f"{quoted[0]:10.3f}{quoted[1]:9.3f}"
            print(f"{network.name:13}{method:20}{seconds:9.4f}{margin:11.4f}{said}", flush=True)


if __name__ == "__main__":
    main()
