"""Wall time of radius queries: the default (anytime) rule against plain N = 100,000.

The same models, images, machine and processes: the default certifies every image at radii .5 and
1.0; a plain run of all of them, made before (``--plain``), gives the accuracy to compare with, and
a few images of it, counted again here, the time, since every plain image costs the same.

    python benchmarks/adaptive_wall_time.py MODELS --plain RUN --data-dir DATA
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from phalanx.runs.provenance import cpu_model
from phalanx.runs.query import summarise
from phalanx.runs.store import RunStore
from phalanx.runtime.device import cores

RESULTS = Path(__file__).parent / "results"
RADII = (0.5, 1.0)
NAME = "mean"


def timed(options: argparse.Namespace, out: Path, *words: str) -> float:
    """Seconds of one ``phalanx certify`` of the ensemble."""
    command = [sys.executable, "-m", "phalanx.cli.main", "certify", str(options.models)]
    command += ["--data", "mnist", "--data-dir", str(options.data_dir), "--every", "20"]
    command += ["--precision", "bf16", "--reducer", NAME, "--out", str(out), *words]
    command += ["--workers", str(options.workers), "--batch", str(options.batch)]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def accuracies(folder: Path) -> tuple[dict[str, float], int, int]:
    """Certified accuracy at the radii, images and samples of a run."""
    with RunStore.open(folder) as run:
        found = summarise(run, NAME, RADII)
        return {f"{r:g}": found.at(r).value for r in RADII}, found.images, found.samples or 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both runs, and what they say."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        words = [word for radius in RADII for word in ("--radius", f"{radius:g}")]
        seconds = timed(options, work / "default", *words)
        few = timed(options, work / "plain", "--limit", str(options.few))
        default, images, samples = accuracies(work / "default")
    plain, plain_images, plain_samples = accuracies(options.plain)
    if images != plain_images:
        raise SystemExit(f"{images} images here, {plain_images} in the plain run")
    plain_seconds = few / options.few * images
    return {
        "command": "python benchmarks/adaptive_wall_time.py MODELS --plain RUN --data-dir DATA",
        "cpu": cpu_model(),
        "workers": options.workers,
        "images": images,
        "radii": RADII,
        "default": {"seconds": seconds, "samples": samples, "certified_accuracy": default},
        "plain": {
            "seconds": plain_seconds,
            "seconds_from_images": options.few,
            "samples": plain_samples,
            "certified_accuracy": plain,
        },
        "times_faster": plain_seconds / seconds,
        "points_lost": {key: 100 * (plain[key] - default[key]) for key in plain},
    }


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("--plain", type=Path, required=True, help="run of N = 100,000, all images")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--batch", default="auto")
    parser.add_argument("--few", type=int, default=12, help="plain images whose time is taken")
    result = measure(parser.parse_args())
    (RESULTS / "adaptive_wall_time.json").write_text(json.dumps(result, indent=1) + "\n")
    for name in ("default", "plain"):
        row = result[name]
        print(
            f"{name:8} {row['seconds']:8.0f} s  {row['samples'] / result['images']:8,.0f} samples"
            f" an image  certified {row['certified_accuracy']}"
        )
    print(f"{result['times_faster']:.1f} times faster; points lost {result['points_lost']}")


if __name__ == "__main__":
    main()
