"""Files with mistakes in them: are they refused, or read as they are written?

ONNX files with one to three changed bytes, or changed nodes, attributes, weights and shapes,
against what onnxruntime makes of them; VNN-LIB files with changed characters and words, against a
reader of their meaning written for the tests. A trial follows from its number alone.

    python benchmarks/mutated_files.py --count 10000 --write      # and: python -O ...
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
RESULT = HERE / "results" / "mutated_files.json"
TESTS = HERE.parent / "tests"
LONGEST = 10.0
"""Seconds of a file beyond which it counts as a hang."""


def onnx_trial() -> Callable[[int], str]:
    """What becomes of the file of a number."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    sys.path.insert(0, str(TESTS / "graph"))
    trial = importlib.import_module("onnx_mutants").trial
    return lambda number: str(trial(number)[1])


def vnnlib_trial() -> Callable[[int], str]:
    """Likewise, of a property."""
    sys.path.insert(0, str(TESTS / "specs"))
    survives = importlib.import_module("test_specs_vnnlib").survives
    return lambda number: "read as it is written" if survives(number) else "refused"


def tried(trial: Callable[[int], str], count: int) -> dict[str, Any]:
    """Outcomes of all numbers; an error that is none of ours is a crash."""
    found: Counter[str] = Counter()
    crashes, longest, begun = [], 0.0, time.process_time()
    for number in range(count):
        started = time.process_time()
        try:
            found[trial(number)] += 1
        except Exception as error:  # noqa: BLE001 - any of them is what is looked for
            crashes.append(f"{number}: {type(error).__name__}: {error}"[:200])
        longest = max(longest, time.process_time() - started)
    return {
        "files": count,
        "outcomes": dict(sorted(found.items())),
        "crashes": crashes,
        "longest, seconds": round(longest, 2),
        "processor seconds": round(time.process_time() - begun),
    }


def main() -> int:
    """Try both kinds; the exit code is 1 where one crashed, hung or was read otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--write", action="store_true", help=f"keep the counts in {RESULT.name}")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "onnx": tried(onnx_trial(), given.count),
        "vnnlib": tried(vnnlib_trial(), given.count),
    }
    kept = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    kept["python -O" if sys.flags.optimize else "python"] = found
    print(json.dumps(kept, indent=1))
    if given.write:
        RESULT.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return int(
        any(
            one["crashes"]
            or one["longest, seconds"] > LONGEST
            or any("otherwise" in outcome for outcome in one["outcomes"])
            for one in found.values()
        )
    )


if __name__ == "__main__":
    sys.exit(main())
