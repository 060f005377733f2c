"""What tighter relaxations gain and cost: mean of nine lower margins, CPU seconds on one thread.

    python benchmarks/relaxations.py --networks DIR --mnist DIR --cifar DIR [--write]

Around the first test image, on the benchmarks' networks, all methods in turn; beside them how long
it takes to check what CROWN found once more with roundings counted. ``--write`` keeps it in
`results/relaxations.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bounds import NETWORKS, Network, measured, problem
from phalanx.bounds.front import compute, margins
from phalanx.bounds.options import Options
from phalanx.bounds.outward.recheck import recheck
from phalanx.bounds.prepare import prepare
from phalanx.bounds.region import box
from phalanx.data.locate import load
from phalanx.graph.from_onnx import from_onnx
from phalanx.graph.run import run

RESULT = Path(__file__).parent / "results" / "relaxations.json"
RADII = {"256x2": 0.025, "256x4": 0.02, "oval21 base": 4 / 255}
"""Where CROWN alone does not decide, and not everything is lost."""


@dataclass(frozen=True)
class Way:
    """A method with options."""

    name: str
    method: str
    options: Options


WAYS = (
    Way("crown", "crown", Options()),
    Way("fast-c2v", "fast-c2v", Options()),
    Way("alpha-crown, 60 steps", "alpha-crown", Options(iterations=60)),
    Way("lp", "lp", Options()),
    Way("lp, cuts=4", "lp", Options(cuts=4)),
    Way("kpoly", "kpoly", Options()),
    Way("kpoly, cuts=4", "kpoly", Options(cuts=4)),
)


def row_of(network: Network, folder: Path, images: Tensor, rounds: int) -> dict[str, Any]:
    """Every way on one network, and the check of what CROWN found."""
    graph, low, high = problem(network, folder, images)
    rows = margins(run(graph, (low + high) / 2).argmax(1), 10)
    region = box(low, high)
    whole = from_onnx(folder / network.file).to(torch.float64)
    exact = prepare(whole, exact=True).to(torch.float64)
    wide = box(low.double(), high.double())

    def lower(way: Way) -> Tensor:
        return compute(graph, region, method=way.method, rows=rows, options=way.options).lower

    runs: list[Callable[[], Tensor]] = [partial(lower, way) for way in WAYS]
    runs.append(lambda: recheck(exact, wide, rows[0].double()))
    found = measured(runs, rounds)
    names = [*(way.name for way in WAYS), "crown, checked again"]
    return {
        "network": network.name,
        "eps": network.eps,
        "ways": {
            name: {"seconds": round(seconds, 4), "margin": round(margin, 4)}
            for name, (seconds, margin) in zip(names, found, strict=True)
        },
    }


def main() -> None:
    """Measure, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=Path, required=True, help="with mnist_fc, oval21, ...")
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"keep it in {RESULT.name}")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    folders = {"mnist": asked.mnist, "cifar10": asked.cifar}
    found = []
    for network in NETWORKS:
        if network.name not in RADII:
            continue
        here = replace(network, eps=RADII[network.name])
        images = load(network.data, folders[network.data]).images([0])
        found.append(row_of(here, asked.networks, images, asked.rounds))
        print(network.name, f"eps {here.eps:.4g}")
        for name, one in found[-1]["ways"].items():
            print(f"  {name:24}{one['margin']:>10.3f}{one['seconds']:>10.3f} s", flush=True)
    if asked.write:
        machine = {"processor": platform.machine(), "torch": torch.__version__, "threads": 1}
        RESULT.write_text(json.dumps({"machine": machine, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
