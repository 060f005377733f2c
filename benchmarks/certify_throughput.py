"""Certification throughput, as ratios measured in interleaved rounds on this machine.

For each network and precision three things are timed in turn, round after round:

* raw: the forward pass alone, inputs ready, at its best batch and memory format;
* loop: the straightforward loop of the published smoothing code - one image, a fixed batch of
  400 (200 on ResNets), fp32, contiguous, torch noise, counts in numpy;
* certify: `phalanx.evaluation`'s sweep - keyed noise, votes, counts, store and certificate.

The goals are certify / raw >= 0.95 and, against the loop, 2.3 in fp32 and 5 in bf16 on the
MNIST network, 1.6 and 2.5 on ResNet-20. Run ``python benchmarks/certify_throughput.py``.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from phalanx.data.arrays import from_arrays
from phalanx.evaluation.certify import Sweep
from phalanx.evaluation.config import CertifyConfig
from phalanx.evaluation.plan import measured_rate
from phalanx.evaluation.request import Request, open_run, settle
from phalanx.models.build import build
from phalanx.models.model import InputSpec, Model
from phalanx.runs.provenance import cpu_model
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.smoothing.tuning import throughput

RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
SUBJECTS = {
    "mnist-cnn": ((1, 28, 28), 400, {"fp32": 2.3, "bf16": 5.0}),
    "resnet20": ((3, 32, 32), 200, {"fp32": 1.6, "bf16": 2.5}),
}


def subject(name: str) -> Model:
    """The network with keyed weights, ready to certify."""
    shape = SUBJECTS[name][0]
    network = build(name, classes=10, shape=shape).eval()
    return Model(network, InputSpec((0.0, 1.0), shape=shape), 10)


def time_raw(request: Request, seconds: float) -> float:
    """Samples a second of the forward pass alone at the tuned batch and format."""
    config = request.config
    layout = Layout(config.precision, bool(config.channels_last), config.fold)
    bank = MemberBank(request.models, layout, CPU)
    return throughput(bank, request.dataset.card.shape, config.batch or 1, seconds)


@torch.inference_mode()
def time_loop(model: Model, shape: tuple[int, ...], batch: int, seconds: float) -> float:
    """Samples a second of the straightforward loop."""
    x, counts, done = torch.rand(shape), np.zeros(model.classes, dtype=int), 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        copies = x.repeat((batch, 1, 1, 1))
        noise = torch.randn_like(copies) * 0.5
        predictions = model(copies + noise).argmax(1)
        for index in predictions.numpy():
            counts[index] += 1
        done += batch
    return done / (time.perf_counter() - start)


def time_certify(request: Request) -> float:
    """Samples a second of a whole sweep, from claim to certificate."""
    samples = len(request.indices) * (request.config.n + request.config.n0)
    with open_run(request, None, command="benchmark")[1] as store:
        start = time.perf_counter()
        Sweep(request, store).run()
        return samples / (time.perf_counter() - start)


def request_for(name: str, precision: str, seconds: float, batch: int | None = None) -> Request:
    """A request of about the given duration, tuned."""
    shape, _, _ = SUBJECTS[name]
    x = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    config = CertifyConfig(sigma=0.5, n=100_000, precision=precision, batch=batch)
    indices = list(range(4))
    request = Request([subject(name)], classifiers_of(1), from_arrays(x), indices, config, CPU)
    request = settle(request, None)
    n = max(1000, int(measured_rate(request) * seconds / 4) - config.n0)
    return Request(
        request.models,
        request.classifiers,
        request.dataset,
        indices,
        request.config.with_options({"n": n}),
        CPU,
    )


def measure(name: str, precision: str, rounds: int, seconds: float) -> dict[str, object]:
    """Medians of interleaved rounds for one network and precision."""
    shape, batch, goals = SUBJECTS[name]
    request, plain = request_for(name, precision, seconds), subject(name)
    raw, loop, certify = [], [], []
    for _ in range(rounds):
        raw.append(time_raw(request, seconds))
        loop.append(time_loop(plain, shape, batch, seconds))
        certify.append(time_certify(request))
    of_raw = statistics.median(c / r for c, r in zip(certify, raw, strict=True))
    of_loop = statistics.median(c / b for c, b in zip(certify, loop, strict=True))
    return {
        "network": name,
        "precision": precision,
        "batch": request.config.batch,
        "channels_last": request.config.channels_last,
        "raw_samples_per_second": round(statistics.median(raw)),
        "loop_samples_per_second": round(statistics.median(loop)),
        "certify_samples_per_second": round(statistics.median(certify)),
        "certify_over_raw": round(of_raw, 3),
        "certify_over_loop": round(of_loop, 2),
        "goal_over_raw": 0.95,
        "goal_over_loop": goals[precision],
    }


def peak_memory(n: int) -> float:
    """Peak resident MiB of a fresh process that certifies one image with n samples."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); " + (
        f"import certify_throughput as b; b.memory_probe({n})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def memory_probe(n: int) -> None:
    """Certify one image and print this process's peak resident MiB."""
    request = request_for("mnist-cnn", "fp32", 0.1, batch=100)
    config = request.config.with_options({"n": n})
    single = Request(request.models, request.classifiers, request.dataset, [0], config, CPU)
    time_certify(single)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each timing")
    arguments = parser.parse_args()
    rows = [
        measure(name, precision, arguments.rounds, arguments.seconds)
        for name in SUBJECTS
        for precision in ("fp32", "bf16")
    ]
    memory = {str(n): round(peak_memory(n)) for n in (10_000, 100_000)}
    result = {
        "command": "python benchmarks/certify_throughput.py",
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "rounds": arguments.rounds,
        "rows": rows,
        "peak_resident_mib_by_n": memory,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "certify_throughput.json").write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(
            f"{row['network']:10} {row['precision']}  raw {row['raw_samples_per_second']:>7,}/s"
            f"  loop {row['loop_samples_per_second']:>6,}/s"
            f"  certify {row['certify_samples_per_second']:>7,}/s"
            f"  certify/raw {row['certify_over_raw']:.3f} (goal 0.95)"
            f"  certify/loop {row['certify_over_loop']:.2f} (goal {row['goal_over_loop']})"
        )
    print(f"peak resident MiB by n: {memory}")


if __name__ == "__main__":
    main()
