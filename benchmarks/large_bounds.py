"""Do linear bounds fit in memory on the largest networks of the lecture's benchmark?

CNNc and CNNd with their first weights, one image, l_inf 0.02, one thread: processor seconds and the
most memory the process held.

    python benchmarks/large_bounds.py mnist-cnn --write
    python benchmarks/large_bounds.py cnn-double --write
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import torch

from phalanx.bounds.front import compute
from phalanx.models.build import build
from phalanx.models.model import InputSpec, Model
from phalanx.specs.threat import Threat

RESULT = Path(__file__).parent / "results" / "large_bounds.json"


def main() -> None:
    """Bound one network and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=["mnist-cnn", "cnn-double"])
    parser.add_argument("--method", default="crown")
    parser.add_argument("--write", action="store_true", help=f"keep it in {RESULT.name}")
    given = parser.parse_args()
    torch.set_num_threads(1)
    shape = (1, 28, 28)
    model = Model(build(given.network, 10, shape).eval(), InputSpec(shape=shape), 10)
    x = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    begun = time.process_time()
    found = compute(model, Threat("linf", 0.02), x, method=given.method)
    told = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "processor seconds": round(time.process_time() - begun, 1),
        "most memory, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "finite": bool(torch.isfinite(found.lower).all()),
    }
    print(json.dumps(told))
    if given.write:
        kept = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
        kept[f"{given.network}, {given.method}"] = told
        RESULT.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
