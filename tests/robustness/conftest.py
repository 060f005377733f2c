"""The robustness gates are measured by benchmarks too; both use the same code."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
