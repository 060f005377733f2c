"""What lattice noise costs: its share of certify time, and certify beside real arithmetic.

Medians over interleaved rounds, so that a machine that is busy with other things disturbs both
sides alike. Noise is timed at the run's own batch, in the thread that certifies.

    python benchmarks/lattice_overhead.py
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from phalanx.data.arrays import from_arrays
from phalanx.evaluation.certify import Sweep
from phalanx.evaluation.config import CertifyConfig
from phalanx.evaluation.plan import measured_rate
from phalanx.evaluation.request import Request, open_run, settle
from phalanx.models.build import build
from phalanx.models.model import InputSpec, Model
from phalanx.noise.stream import NormalStream
from phalanx.runs.provenance import cpu_model
from phalanx.smoothing.classifiers import classifiers_of

RESULTS = Path(__file__).parent / "results"
SHAPE, IMAGES = (1, 28, 28), 2
GOALS = {"fp32": 0.05, "bf16": 0.10}
SIGMAS = (0.25, 0.5, 1.0)


def request_of(precision: str, sigma: float, seconds: float) -> Request:
    """The MNIST network on 8-bit images, tuned, with samples for about that many seconds."""
    model = Model(build("mnist-cnn", 10, SHAPE).eval(), InputSpec(shape=SHAPE), 10)
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (IMAGES, *SHAPE), generator=draw) / 255
    config = CertifyConfig(sigma=sigma, precision=precision)
    indices, device = list(range(IMAGES)), torch.device("cpu")
    request = Request([model], classifiers_of(1), from_arrays(x), indices, config, device)
    request = settle(request, None)
    n = max(1000, int(measured_rate(request) * seconds / IMAGES))
    return replace(request, config=request.config.with_options({"n": n}))


def certify_seconds(request: Request) -> float:
    """Seconds a sample of a whole sweep, from claim to certificate."""
    samples = len(request.indices) * (request.config.n + request.config.n0)
    with open_run(request, None, command="benchmark")[1] as store:
        start = time.perf_counter()
        Sweep(request, store).run()
        return (time.perf_counter() - start) / samples


def noise_seconds(request: Request, passes: int = 20) -> float:
    """Seconds a sample of noise alone, written to a batch as the engine does."""
    x, noise = request.dataset.images([0])[0], request.arithmetic.noise
    batch = request.config.batch or 1
    form = torch.channels_last if request.config.channels_last else torch.contiguous_format
    out = torch.empty(batch, *SHAPE).to(memory_format=form)
    stream = NormalStream(1, x.numel())
    noise.fill(out, x, stream)
    start = time.perf_counter()
    for _ in range(passes):
        noise.fill(out, x, stream)
    return (time.perf_counter() - start) / passes / batch


def measure(precision: str, sigma: float, rounds: int, seconds: float) -> dict[str, object]:
    """Medians of interleaved rounds for one precision and level."""
    lattice = request_of(precision, sigma, seconds)
    real = replace(lattice, config=replace(lattice.config, arithmetic="real"))
    shares, ratios, noises, plains, sweeps = [], [], [], [], []
    for _ in range(rounds):
        noises.append(noise_seconds(lattice))
        sweeps.append(certify_seconds(lattice))
        plains.append(noise_seconds(real))
        ratios.append(sweeps[-1] / certify_seconds(real))
        shares.append(noises[-1] / sweeps[-1])
    found = lattice.arithmetic.lattice
    return {
        "network": "mnist-cnn",
        "precision": precision,
        "sigma": sigma,
        "steps": found.steps if found else None,
        "batch": lattice.config.batch,
        "lattice_noise_microseconds": round(1e6 * statistics.median(noises), 2),
        "real_noise_microseconds": round(1e6 * statistics.median(plains), 2),
        "certify_microseconds": round(1e6 * statistics.median(sweeps), 1),
        "noise_share_of_certify": round(statistics.median(shares), 4),
        "certify_over_real": round(statistics.median(ratios), 3),
        "goal_share": GOALS[precision],
    }


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each sweep")
    arguments = parser.parse_args()
    rows = [
        measure(precision, sigma, arguments.rounds, arguments.seconds)
        for precision in GOALS
        for sigma in SIGMAS
    ]
    result = {
        "command": f"python benchmarks/lattice_overhead.py --rounds {arguments.rounds}"
        f" --seconds {arguments.seconds:g}",
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "lattice_overhead.json").write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(
            f"{row['precision']} sigma {row['sigma']:<4}  noise {row['lattice_noise_microseconds']}"
            f" us (real {row['real_noise_microseconds']}) of {row['certify_microseconds']} us"
            f" = {row['noise_share_of_certify']:.1%} (goal {row['goal_share']:.0%})"
            f"  certify/real {row['certify_over_real']:.3f}"
        )


if __name__ == "__main__":
    main()
