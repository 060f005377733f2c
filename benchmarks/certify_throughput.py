"""Certification throughput, as ratios measured in interleaved rounds on this machine.

For each network and precision four things are timed in turn, round after round:

* raw: the forward pass alone of the network as it is, inputs ready, at its best batch and
  memory format;
* prepared: the same for the network as certification runs it (folded, fused, reproducible);
* loop: the straightforward loop of the published smoothing code - one image, a fixed batch of
  400 (200 on ResNets), fp32, contiguous, torch noise, counts in numpy;
* certify: `phalanx.evaluation`'s sweep - keyed noise, votes, counts, store and certificate.

A sweep starts, tunes and ends once whatever its length, so it is timed over longer than the
others, and still over far less than a real one. certify / prepared says what everything beside
the forward pass costs. The goals are certify / raw >= 0.95 and, against the loop, 2.3 in fp32
and 5 in bf16 on the MNIST network, 1.6 and 2.5 on ResNet-20. bfloat16 is measured where the
processor multiplies it natively; the results keep the last figures of every processor. Run
``python benchmarks/certify_throughput.py``.
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
from itertools import product
from pathlib import Path

import numpy as np
import torch

from phalanx.data.arrays import from_arrays
from phalanx.evaluation.certify import Sweep
from phalanx.evaluation.config import CertifyConfig
from phalanx.evaluation.plan import measured_rate
from phalanx.evaluation.request import Request, bank_of, open_run, settle
from phalanx.models.build import build
from phalanx.models.model import InputSpec, Model
from phalanx.runs.provenance import cpu_model
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.smoothing.tuning import CPU_BATCHES, fastest_threads, throughput
from phalanx.training.placement import resolve_precision

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


def best_raw(name: str, precision: str) -> tuple[MemberBank, int]:
    """The network as it is, in the memory format and at the batch where it is fastest."""
    shape = SUBJECTS[name][0]
    banks = [
        MemberBank([subject(name)], Layout(precision, last, fold=False, fuse=False), CPU)
        for last in (True, False)
    ]
    return max(product(banks, CPU_BATCHES), key=lambda pair: throughput(pair[0], shape, pair[1]))


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
    # Bytes, as the literature's images are: they lie on the lattice of the noise.
    x = torch.randint(256, (4, *shape), generator=torch.Generator().manual_seed(0)) / 255
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


def measure(name: str, precision: str, options: argparse.Namespace) -> dict[str, object]:
    """Medians of interleaved rounds for one network and precision."""
    shape, batch, goals = SUBJECTS[name]
    request, plain = request_for(name, precision, options.sweep), subject(name)
    rounds, seconds = options.rounds, options.seconds
    raw, raw_batch = best_raw(name, precision)
    prepared, prepared_batch = bank_of(request), request.config.batch or 1
    rates: dict[str, list[float]] = {"raw": [], "prepared": [], "loop": [], "certify": []}
    for _ in range(rounds):
        for kind, bank, rows in (
            ("raw", raw, raw_batch),
            ("prepared", prepared, prepared_batch),
        ):
            with fastest_threads(bank, shape, rows):
                rates[kind].append(throughput(bank, shape, rows, seconds))
        rates["loop"].append(time_loop(plain, shape, batch, seconds))
        rates["certify"].append(time_certify(request))
    return {
        "network": name,
        "precision": precision,
        "batch": prepared_batch,
        "channels_last": request.config.channels_last,
        "raw_batch": raw_batch,
        "raw_channels_last": raw.layout.channels_last,
        **{f"{kind}_samples_per_second": round(statistics.median(r)) for kind, r in rates.items()},
        **{f"certify_over_{kind}": _ratio(rates, kind) for kind in ("raw", "prepared", "loop")},
        "goal_over_raw": 0.95,
        "goal_over_loop": goals[precision],
    }


def _ratio(rates: dict[str, list[float]], kind: str) -> float:
    """Median over rounds of certify's rate in units of another's."""
    pairs = zip(rates["certify"], rates[kind], strict=True)
    return round(statistics.median(certify / other for certify, other in pairs), 3)


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
    parser.add_argument("--sweep", type=float, default=20.0, help="seconds of each certification")
    arguments = parser.parse_args()
    native = resolve_precision("auto", "cpu") == "bf16"
    rows = [
        measure(name, precision, arguments)
        for name in SUBJECTS
        for precision in (("fp32", "bf16") if native else ("fp32",))
    ]
    memory = {str(n): round(peak_memory(n)) for n in (10_000, 100_000)}
    result = {
        "command": f"python benchmarks/certify_throughput.py --rounds {arguments.rounds}"
        f" --seconds {arguments.seconds:g} --sweep {arguments.sweep:g}",
        "native_bfloat16": native,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "rounds": arguments.rounds,
        "rows": rows,
        "peak_resident_mib_by_n": memory,
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "certify_throughput.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**kept, cpu_model(): result}, indent=1) + "\n")
    for row in rows:
        print(
            f"{row['network']:10} {row['precision']}  raw {row['raw_samples_per_second']:>7,}/s"
            f"  loop {row['loop_samples_per_second']:>6,}/s"
            f"  certify {row['certify_samples_per_second']:>7,}/s"
            f"  certify/raw {row['certify_over_raw']:.3f} (goal 0.95)"
            f"  certify/prepared {row['certify_over_prepared']:.3f}"
            f"  certify/loop {row['certify_over_loop']:.2f} (goal {row['goal_over_loop']})"
        )
    if not native:
        print("bfloat16 is left out: this processor has no native arithmetic for it")
    print(f"peak resident MiB by n: {memory}")


if __name__ == "__main__":
    main()
