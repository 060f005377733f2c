"""Do bounds that were checked again contain the true value? Ten thousand networks, no tolerance.

Small random networks around every operator, boxes and balls in l2 and l1 of eps 1e-8 to 1, slopes
and planes of ten searches. The
true value is known in rationals where the network has straight pieces, products and reciprocals
only, else to fifty digits and more. A trial follows from its number alone; the networks and exact
arithmetic are those of the tests (`tests/bounds/bounds_gate.py`).

    python benchmarks/outward_gate.py --trials 10000 --write
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
RESULT = HERE / "results" / "outward_gate.json"
ROOM = HERE.parent / "tests" / "bounds"


class Gate:
    """Counts of all trials so far."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.shares: dict[str, dict[str, Counter[str]]] = {"norm": {}, "way": {}, "case": {}}
        self.wrong: list[int] = []

    def add(self, number: int, found: Any) -> None:
        """One more trial."""
        counts = {
            "networks": 1,
            "in rationals": int(found.exact),
            "comparisons": found.bounds,
            "bounds that say nothing": found.empty,
            "violations": found.wrong,
            "networks where single precision is wrong": int(found.single > 0),
        }
        self.totals.update(counts)
        for key, share in self.shares.items():
            share.setdefault(getattr(found, key), Counter()).update(counts)
        if found.wrong:
            self.wrong.append(number)

    def as_dict(self, seconds: float) -> dict[str, Any]:
        """JSON values."""
        return {
            **self.totals,
            "trials with violations": self.wrong,
            "processor seconds": round(seconds),
            "machine": f"{platform.machine()}, torch {torch.__version__}, one thread",
            **{
                name: {case: dict(counts) for case, counts in sorted(self.shares[key].items())}
                for name, key in (("norms", "norm"), ("searches", "way"), ("operators", "case"))
            },
        }


def main() -> int:
    """Run trials and print what they showed; the exit code is 1 where a bound was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after as many")
    parser.add_argument("--write", action="store_true", help=f"keep the counts in {RESULT.name}")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOM))
    trial = importlib.import_module("bounds_gate").trial
    gate, begun, last = Gate(), time.process_time(), time.monotonic() + given.seconds
    for number in range(given.first, given.first + given.trials):
        if time.monotonic() > last:
            break
        gate.add(number, trial(number))
        if number % 500 == 499:
            print(f"{number + 1} trials, {gate.totals['violations']} violations", file=sys.stderr)
    found = gate.as_dict(time.process_time() - begun)
    print(json.dumps(found, indent=1))
    if given.write:
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if gate.totals["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
