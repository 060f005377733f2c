"""Throughput with everything on: lattice noise, an ensemble, K-consensus, images that leave early.

A sweep of real images decides given radii with the default stopping rule, so that samples of
many images share every batch and images leave as soon as they are decided. Its wall time, from the
first claim to the last certificate, is compared with the time that the forward passes it needed
take alone: those of the first K members for every sample, those of the others for the samples on
which these differ, at the rate of the networks as they came, in their best batch and memory
format, measured in the rounds between the sweeps. Goal: 90%. bfloat16 is measured where the
processor multiplies it natively; the results keep the last figures of every processor.

    python benchmarks/mixed_throughput.py MODELS --data-dir DATA
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

import phalanx
from phalanx.data.dataset import Dataset
from phalanx.evaluation.certify import Sweep
from phalanx.evaluation.request import Request, bank_of, engine_of, open_run, request_of, settle
from phalanx.models.model import Model
from phalanx.runs.provenance import cpu_model
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.engine import Engine
from phalanx.smoothing.tuning import CPU_BATCHES, fastest_threads, throughput
from phalanx.training.placement import resolve_precision

RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
FIRST, GOAL = 2, 0.9


class Counting(Sweep):
    """A sweep whose engine can be asked afterwards what it ran."""

    @property
    def engine(self) -> Engine:
        """As `run` left it."""
        return self._engine


def best_raw(models: Sequence[Model], shape: tuple[int, ...], precision: str) -> tuple[Any, int]:
    """The networks as they came, in the memory format and at the batch where they are fastest."""
    layouts = [Layout(precision, last, fold=False, fuse=False) for last in (True, False)]
    banks = [MemberBank(models, layout, CPU) for layout in layouts]
    return max(product(banks, CPU_BATCHES), key=lambda pair: throughput(pair[0], shape, pair[1]))


def swept(request: Request) -> tuple[float, int, float]:
    """Seconds of a sweep, the samples it drew, and the share on which the first K agreed."""
    with open_run(request, None, command="benchmark")[1] as store:
        sweep = Counting(request, store)
        start = time.perf_counter()
        sweep.run()
        seconds = time.perf_counter() - start
        return seconds, sweep.engine.rows, sweep.engine.agreed / sweep.engine.rows


def measure(
    models: Sequence[Model], data: Dataset, precision: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Medians of interleaved rounds for one precision."""
    indices = data.select(every=len(data) // options.images, limit=options.images)
    asked = {"radii": tuple(options.radius), "n": options.n, "precision": precision}
    request = settle(request_of(models, data, asked, indices=indices, consensus=FIRST), None)
    raw, rows = best_raw(models, data.card.shape, precision)
    found: list[tuple[float, float, float]] = []
    for _ in range(options.rounds):
        with fastest_threads(raw, data.card.shape, rows):
            rate = throughput(raw, data.card.shape, rows, options.seconds) * len(models)
        seconds, samples, agreed = swept(request)
        passes = samples * (FIRST + (1 - agreed) * (len(models) - FIRST))
        found.append((passes / rate / seconds, samples / len(indices), agreed))
    shares, samples_each, agreement = (list(column) for column in zip(*found, strict=True))
    engine = engine_of(request, bank_of(request))
    return {
        "precision": precision,
        "members": len(models),
        "first": FIRST,
        "arithmetic": request.arithmetic.name,
        "stop": request.config.rule,
        "batch": engine.batch,
        "raw_batch": rows,
        "samples_an_image": round(statistics.mean(samples_each)),
        "agreement": agreement[0],
        "of_raw": round(statistics.median(shares), 3),
        "rounds": [round(share, 3) for share in shares],
    }


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--radius", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each raw measurement")
    options = parser.parse_args()
    loaded = phalanx.load(options.models)
    models = loaded if isinstance(loaded, list) else [loaded]
    data = phalanx.load_data(options.data, options.data_dir)
    native = resolve_precision("auto", "cpu") == "bf16"
    precisions = ("fp32", "bf16") if native else ("fp32",)
    results = [measure(models, data, precision, options) for precision in precisions]
    kept = {
        "command": "python benchmarks/mixed_throughput.py MODELS --data-dir DATA",
        "torch": torch.__version__,
        "images": options.images,
        "radii": options.radius,
        "goal": GOAL,
        "results": results,
    }
    file = RESULTS / "mixed_throughput.json"
    earlier = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**earlier, cpu_model(): kept}, indent=1) + "\n")
    for row in results:
        print(
            f"{row['precision']}: {row['of_raw']:.3f} of the raw passes (goal {GOAL}),"
            f" rounds {row['rounds']}, {row['samples_an_image']:,} samples an image,"
            f" the first {FIRST} of {row['members']} agree on {row['agreement']:.4f}"
        )


if __name__ == "__main__":
    main()
