"""What K-consensus saves, of what it could.

With k members, K of them asked first and agreeing on a share a of the samples, at most
k / (K + (1 - a)(k - K)) times fewer forward passes are needed. Here the engine counts the same
noise with and without consensus, in interleaved rounds, and the ratio of the times is compared
with that. Where k is larger than the number of models they are repeated: that changes the cost of
nothing, and the figures say nothing about accuracy. Noise is drawn once a sample in either case,
so where forward passes are quick (small networks in bfloat16) less of it can be saved.

bfloat16 is measured where the processor multiplies it natively; the results keep the last figures
of every processor.

    python benchmarks/consensus.py MODELS --data-dir DATA
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import phalanx
from phalanx.models.model import Model
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.stream import default_generator
from phalanx.runs.provenance import cpu_model
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.smoothing.engine import Engine, Work
from phalanx.smoothing.stopping import Chunk
from phalanx.smoothing.tuning import fastest_threads
from phalanx.training.placement import resolve_precision

RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
FIRST, SIZES = 2, (3, 10)
SHORTER = 5
"""So many times fewer samples tell what one costs without consensus; with it the last batch for the
remaining members is never full, once a sweep."""


def engine_of(models: Sequence[Model], layout: Layout, batch: int, consensus: int | None) -> Engine:
    """An engine over the models."""
    return Engine(
        MemberBank(models, layout, CPU),
        classifiers_of(len(models), consensus=consensus),
        Gaussian(models[0].sigma or 0.5),
        seed=0,
        batch=batch,
        generator=default_generator(CPU),
    )


def seconds(engine: Engine, images: Sequence[torch.Tensor], rows: int) -> float:
    """Of one sample, where ``rows`` of every image are counted."""
    queue = deque(Work(i, Chunk("estimation", 0, rows), x) for i, x in enumerate(images))
    start = time.perf_counter()
    for _ in engine.run(lambda: queue.popleft() if queue else None):
        pass
    return (time.perf_counter() - start) / (rows * len(images))


def measure(
    models: Sequence[Model],
    images: Sequence[torch.Tensor],
    precision: str,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Medians of interleaved rounds for one number of members."""
    size, layout = len(models), Layout(precision)
    whole = engine_of(models, layout, options.batch, None)
    consensus = engine_of(models, layout, options.batch, FIRST)
    for engine in (whole, consensus):
        seconds(engine, images[:1], options.batch)
        engine.rows = engine.agreed = 0
    with fastest_threads(whole.bank, images[0].shape, options.batch):
        ratios = []
        for _ in range(options.rounds):
            slow = seconds(whole, images, options.rows // SHORTER)
            ratios.append(slow / seconds(consensus, images, options.rows))
    agreement = consensus.agreed / consensus.rows
    possible = size / (FIRST + (1 - agreement) * (size - FIRST))
    times = statistics.median(ratios)
    return {
        "precision": precision,
        "members": size,
        "first": FIRST,
        "agreement": agreement,
        "times_faster": times,
        "possible": possible,
        "of_possible": times / possible,
    }


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2000, help="samples of each image")
    parser.add_argument("--batch", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    loaded = phalanx.load(options.models)
    members = loaded if isinstance(loaded, list) else [loaded]
    data = phalanx.load_data(options.data, options.data_dir)
    images = list(data.images(data.select(every=len(data) // options.images, limit=options.images)))
    native = resolve_precision("auto", "cpu") == "bf16"
    rows = [
        measure([members[i % len(members)] for i in range(size)], images, precision, options)
        for precision in (("fp32", "bf16") if native else ("fp32",))
        for size in SIZES
    ]
    result = {
        "command": "python benchmarks/consensus.py MODELS --data-dir DATA",
        "torch": torch.__version__,
        **{name: getattr(options, name) for name in ("images", "rows", "batch", "rounds")},
        "goal_of_possible": 0.9,
        "results": rows,
    }
    file = RESULTS / "consensus.json"
    earlier = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**earlier, cpu_model(): result}, indent=1) + "\n")
    for row in rows:
        print(
            f"{row['precision']}, k = {row['members']:2}, K = {FIRST}:"
            f" agreement {row['agreement']:.4f}, {row['times_faster']:.2f} times faster"
            f" of {row['possible']:.2f} possible ({100 * row['of_possible']:.0f}%)"
        )


if __name__ == "__main__":
    main()
